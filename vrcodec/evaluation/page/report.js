const data = JSON.parse(document.getElementById("data").textContent);

function startDial(viewer) {
  const stage = new Stage(viewer);
  const picture = part(viewer, "picture");
  const position = part(viewer, "position");
  function update() {
    const { width, height, original, positions } = data.pictures[picture.value].dial;
    const now = positions[position.value];
    stage.size(width, height);
    stage.show("left", now.src, `quality ${number(now.quality, 1)}`);
    stage.show("right", original, "original");
    position.setAttribute("aria-valuetext", number(now.quality, 1));
    part(viewer, "quality").textContent = number(now.quality, 1);
    part(viewer, "bytes").textContent = `${number(now.bytes, 0)} bytes`;
    part(viewer, "bpp").textContent = number(now.bpp, 2);
    part(viewer, "psnr").textContent = `${number(now.metrics.psnr, 2)} dB`;
    part(viewer, "share").textContent = `${number((100 * now.bpp) / 24, 1)} %`;
  }
  picture.addEventListener("change", update);
  position.addEventListener("input", update);
  update();
  return stage;
}

function startPair(viewer) {
  const stage = new Stage(viewer);
  const { width, height, original, rates } = data.pictures[viewer.dataset.picture].side_by_side;
  const choices = ["rate", "left", "right"].map((name) => part(viewer, name));
  function row(side, codec, shown) {
    const cells = [side, codec === "original" ? codec : data.codecs[codec]];
    if (shown) {
      const size = number(shown.bytes, 0) + (shown.fits ? "" : " (its smallest)");
      cells.push(String(shown.quality), size, number(shown.bpp, 3));
      for (const [metric, places] of data.metrics) cells.push(number(shown.metrics[metric], places));
    } else {
      cells.push(...Array(3 + data.metrics.length).fill("–"));
    }
    const line = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = line.appendChild(document.createElement(i ? "td" : "th"));
      cell.textContent = text;
      if (i === 1) cell.className = "text";
    });
    return line;
  }
  function update() {
    const [rate, ...sides] = choices.map((choice) => choice.value);
    const rows = ["left", "right"].map((side, i) => {
      const shown = rates[rate].shown[sides[i]];
      const title = shown ? data.codecs[sides[i]] : "original";
      stage.show(side, shown ? shown.src : original, title);
      return row(side, sides[i], shown);
    });
    part(viewer, "sides").replaceChildren(...rows);
  }
  stage.size(width, height);
  for (const choice of choices) choice.addEventListener("change", update);
  update();
  return stage;
}

const viewers = new Map();
for (const viewer of document.querySelectorAll("[data-viewer]")) {
  viewers.set(viewer, (viewer.dataset.viewer === "dial" ? startDial : startPair)(viewer));
}
flipByKey(viewers);
document.querySelectorAll("figure").forEach(sayValues);
document.querySelectorAll(".scroll, figure").forEach(sayMore);
