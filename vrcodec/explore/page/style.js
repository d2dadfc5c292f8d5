// The other mode of the page: the picture in a style, on the left side, beside the original.
const style = { known: {}, name: null, positions: {} };

function styling() {
  return byPart("stylemode").checked;
}

const styled = new Newest(async () => {
  const { picture } = state;
  const { name } = style;
  const place = (kind) => here(`styles/${name}/${kind}?${new URLSearchParams(style.positions)}`);
  const answer = await ask(place("shown"));
  if (picture !== state.picture || name !== style.name || !styling()) return;
  await show("left", answer, name);
  byPart("stylepng").href = place("png");
  byPart("stylepng").download = `${stem()}.${name}.png`;
  say("");
});

function restyle() {
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
    style.known = await (await ask("styles")).json();
    const names = Object.keys(style.known);
    if (!names.length) throw new Error("there are no styles here");
    fill(byPart("styles"), names.map((name) => [name, name]));
    choose(names[0]);
  }
  stop();
  document.body.classList.toggle("styled", styling());
  byPart("beside").value = "original";
  await beside();
  await lookAgain();
}

for (const input of document.querySelectorAll("[name=mode]")) {
  input.addEventListener("change", () => changeMode().catch((error) => {
    document.querySelector("[name=mode][value=code]").checked = true;
    failed(error);
  }));
}
