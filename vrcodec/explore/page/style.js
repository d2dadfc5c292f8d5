// The other mode of the page: the picture in a style, on the left side, beside the original.
const style = { known: {}, name: null, positions: {} };

function styling() {
  return byPart("stylemode").checked;
}

const styled = new Newest(async () => {
  const { picture } = state;
  const { name } = style;
  const place = (kind) => here(`styles/${name}/${kind}?${new URLSearchParams(style.positions)}`);
  if (!styling()) return;
  const png = place("png");
  await show("left", place("shown"), name);
  if (picture !== state.picture || name !== style.name) return;
  byPart("stylepng").href = png;
  byPart("stylepng").download = `${stem()}.${name}.png`;
});

function restyle() {
  say("");
  followDials(byPart("coefficients"), style.positions);
  styled.wish();
}

function choose(name) {
  style.name = name;
  makeDials(byPart("coefficients"), style.known[name].dials, style.positions, restyle);
  byPart("credit").textContent = style.known[name].credit;
}

byPart("styles").addEventListener("change", (event) => {
  choose(event.target.value);
  restyle();
});

async function changeMode() {
  if (styling() && !style.name) {
    const known = await (await ask("styles")).json();
    if (!styling() || style.name) return; // another change of mind was quicker
    style.known = known;
    const names = Object.keys(style.known);
    if (!names.length) throw new Error("there are no styles here");
    fill(byPart("styles"), names.map((name) => [name, name]));
    choose(names[0]);
  }
  stop();
  claim("left");
  document.body.classList.toggle("styled", styling());
  byPart("beside").value = "original";
  await beside();
  await lookAgain();
}

for (const input of document.querySelectorAll("[name=mode]")) {
  input.addEventListener("change", () => changeMode().catch((error) => {
    if (error.name === "AbortError") return; // something newer is wanted
    document.querySelector("[name=mode][value=code]").checked = true;
    failed(error);
  }));
}
