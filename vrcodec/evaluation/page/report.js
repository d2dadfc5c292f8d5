"use strict";

const MIN_WIDTH = 400; // smaller pictures are shown enlarged
const data = JSON.parse(document.getElementById("data").textContent);

function number(value, places) {
  if (value === null) return "–";
  return value.toLocaleString("en", {
    minimumFractionDigits: places, maximumFractionDigits: places,
  });
}

// Two pictures of one size, one over the other; the upper one is cut at a line that can be moved.
class Stage {
  constructor(viewer) {
    this.root = viewer.querySelector("[data-part=stage]");
    this.split = viewer.querySelector("[data-part=split]");
    this.zoom = viewer.querySelector("[data-part=zoom]");
    this.pane = this.root.appendChild(document.createElement("div"));
    this.pane.className = "pane";
    this.layers = this.pane.appendChild(document.createElement("div"));
    this.layers.className = "layers";
    const [right, left] = ["right", "left"].map((side) => {
      const image = this.layers.appendChild(new Image());
      image.className = side;
      image.decoding = "sync";
      image.draggable = false;
      const tag = this.root.appendChild(document.createElement("span"));
      tag.className = `tag ${side}`;
      return { image, tag };
    });
    this.sides = { left, right };
    this.layers.appendChild(document.createElement("div")).className = "line";
    this.split.addEventListener("input", () => this.place());
    this.zoom.addEventListener("change", () => this.scale());
    this.layers.addEventListener("pointerdown", (event) => this.drag(event));
    this.layers.addEventListener("pointermove", (event) => this.drag(event));
    this.place();
  }

  size(width, height) {
    const shownWidth = width * Math.max(1, Math.floor(MIN_WIDTH / width));
    this.root.style.maxWidth = this.split.parentElement.style.maxWidth = `${shownWidth}px`;
    this.pane.style.aspectRatio = `${width} / ${height}`;
    this.scale();
  }

  show(side, source, title) {
    const { image, tag } = this.sides[side];
    if (image.src !== source) image.src = source;
    image.alt = tag.textContent = title;
  }

  place() {
    this.layers.style.setProperty("--split", `${this.split.value}%`);
    this.split.setAttribute("aria-valuetext", `${this.split.value} % from the left`);
  }

  // Keeps the middle of what is seen where it is.
  scale() {
    const { pane, layers } = this;
    const zoom = Number(this.zoom.value);
    const [x, y] = [
      (pane.scrollLeft + pane.clientWidth / 2) / (layers.offsetWidth || 1),
      (pane.scrollTop + pane.clientHeight / 2) / (layers.offsetHeight || 1),
    ];
    layers.style.width = layers.style.height = `${100 * zoom}%`;
    pane.classList.toggle("zoomed", zoom > 1);
    pane.classList.toggle("magnified", zoom > 2);
    if (zoom > 1) {
      pane.tabIndex = 0;
      pane.setAttribute("role", "region");
      pane.setAttribute("aria-label", "Enlarged picture; the arrow keys move it");
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) pane.removeAttribute(name);
    }
    pane.scrollLeft = x * layers.offsetWidth - pane.clientWidth / 2;
    pane.scrollTop = y * layers.offsetHeight - pane.clientHeight / 2;
  }

  drag(event) {
    if (!(event.buttons & 1) || (event.pointerType === "touch" && this.zoom.value !== "1")) return;
    if (event.type === "pointerdown") this.layers.setPointerCapture(event.pointerId);
    const box = this.layers.getBoundingClientRect();
    this.split.value = (100 * (event.clientX - box.left)) / box.width;
    this.place();
  }
}

function part(viewer, name) {
  return viewer.querySelector(`[data-part=${name}]`);
}

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
    part(viewer, "psnr").textContent = `${number(now.psnr, 2)} dB`;
    part(viewer, "share").textContent = `${number((100 * now.bpp) / 24, 1)} %`;
  }
  picture.addEventListener("change", update);
  position.addEventListener("input", update);
  update();
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
      for (const metric of data.metrics) {
        cells.push(number(shown[metric], metric === "ms_ssim" ? 4 : 2));
      }
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
}

for (const viewer of document.querySelectorAll("[data-viewer]")) {
  (viewer.dataset.viewer === "dial" ? startDial : startPair)(viewer);
}
