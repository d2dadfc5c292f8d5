const SETTLED = 200; // milliseconds that the dials rest before a file is made
const byPart = (name) => document.querySelector(`[data-part=${name}]`);
const stage = new Stage(byPart("work"));
const state = { model: null, picture: null, dials: {}, exact: null, others: {}, points: [] };

// Every failure is said, in one line; what was given up on purpose is none.
function say(text) {
  byPart("message").textContent = text;
  byPart("message").hidden = !text;
}

function failed(error) {
  if (error.name === "AbortError") return;
  const lost = error instanceof TypeError;
  say(lost ? "No answer from vrcodec: is it still running?" : error.message);
}

async function ask(path, body, signal) {
  const options = { signal };
  if (body !== undefined) {
    options.method = "POST";
    options.body = body instanceof Blob ? body : JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error ?? `vrcodec answers ${answer.status}`);
  }
  return answer;
}

async function* lines(path, body, signal) {
  const answer = await ask(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const text of parts) {
      const line = JSON.parse(text);
      if (line.error) throw new Error(line.error);
      yield line;
    }
  }
}

const here = (path) => `pictures/${state.picture.id}/${path}`;

// Pictures of either side are blobs; the one before is let go of.
const urls = {};
async function show(side, answer, title) {
  const url = URL.createObjectURL(await answer.blob());
  const before = urls[side];
  urls[side] = url;
  stage.show(side, url, title);
  await stage.sides[side].image.decode().catch(() => {});
  if (before) URL.revokeObjectURL(before);
}

// One thing at a time that takes long, which can be cancelled.
let patient = null;
async function takeTime(what, work) {
  patient?.abort();
  const mine = new AbortController();
  patient = mine;
  const bar = byPart("progress").querySelector("progress");
  bar.removeAttribute("value");
  byPart("doing").textContent = what;
  byPart("progress").hidden = false;
  try {
    await work(mine.signal, (line) => {
      if (line.progress !== undefined) bar.value = line.progress;
    });
    say("");
  } catch (error) {
    failed(error);
  } finally {
    if (patient === mine) {
      patient = null;
      byPart("progress").hidden = true;
    }
  }
}
byPart("cancel").addEventListener("click", () => patient?.abort());

// What is known of the file: a guess while the dials move, then the file itself.
function tell(facts, isGuess) {
  const cells = [
    ["File size", facts.bytes, 0, "bytes", true], ["Bits per pixel", facts.bpp, 3, "", true],
    ["Of the raw size", facts.bpp && (100 * facts.bpp) / 24, 1, "%", true],
    ...state.model.metrics.map((m) => [m.title, facts[m.name], m.places, m.unit]),
  ];
  byPart("facts").replaceChildren(...cells.map(([title, value, places, unit, estimated]) => {
    const cell = document.createElement("div");
    cell.appendChild(document.createElement("dt")).textContent = title;
    const shown = cell.appendChild(document.createElement("dd"));
    shown.classList.toggle("guess", isGuess);
    shown.textContent = value === undefined ? "…" : number(value, places);
    if (value !== undefined && value !== null && unit) shown.textContent += ` ${unit}`;
    if (isGuess && estimated && value !== undefined) shown.textContent = `≈ ${shown.textContent}`;
    return cell;
  }));
}

function tag() {
  return state.model.dials.map((d) => `${d.name} ${number(state.dials[d.name], 2)}`).join(", ");
}

// The newest wish wins: while one picture is made the others wait, and only the last is made.
class Newest {
  constructor(make) {
    this.make = make;
    this.wishes = 0;
    this.busy = false;
  }

  // Whether what was wanted last is made now; if not, another call is at it.
  async wish() {
    this.wishes += 1;
    if (this.busy) return false;
    this.busy = true;
    try {
      for (let made = 0; made !== this.wishes;) {
        made = this.wishes;
        await this.make();
      }
    } catch (error) {
      failed(error);
    } finally {
      this.busy = false;
    }
    return true;
  }
}

const previews = new Newest(preview);
let rested = 0; // when the dials will have rested
let settled = null;
let coding = null;
let guess = null;

function stop() {
  coding?.abort();
  patient?.abort();
  clearTimeout(settled);
}

function move() {
  stop();
  byPart("files").hidden = byPart("bought").hidden = true;
  followDials();
  follow().catch(failed);
}

async function follow() {
  rested = performance.now() + SETTLED;
  guess = null;
  if (!await previews.wish() || styling()) return;
  if (guess) await measure(guess);
  settled = setTimeout(() => code().catch(failed), rested - performance.now());
}

async function preview() {
  const { picture } = state;
  byPart("state").textContent = "preview";
  if (picture.width * picture.height > state.model.preview_pixels) return;
  const answer = await ask(here("preview"), { dials: state.dials });
  if (picture !== state.picture || styling()) return;
  await show("left", answer, tag());
  guess = JSON.parse(answer.headers.get("X-Facts"));
  tell(guess, true);
  say("");
}

// What takes longer to measure of a preview, until something moves again.
async function measure(facts) {
  const mine = new AbortController();
  coding = mine;
  for await (const line of lines(here(`previews/${facts.preview}`), undefined, mine.signal)) {
    tell(Object.assign(facts, line), true);
  }
}

async function code() {
  coding?.abort();
  const mine = new AbortController();
  coding = mine;
  state.plain = await receive(here("code"), { dials: state.dials }, mine.signal);
  compareAgain();
}

// A file as it is made: its size first, and what takes longer to measure as it comes.
async function receive(path, body, signal, onLine = () => {}) {
  const facts = {};
  byPart("state").textContent = "coding…";
  for await (const line of lines(path, body, signal)) {
    onLine(line);
    if (line.made) await take(line, signal);
    if (line.progress === undefined) tell(Object.assign(facts, line), false);
  }
  state.exact = facts;
  byPart("state").textContent = "the file, exactly";
  say("");
  table();
  plot();
  return facts;
}

async function take(line, signal) {
  state.exact = line;
  Object.assign(state.dials, line.dials);
  followDials();
  const answer = await ask(here(`made/${line.made}/shown`), undefined, signal);
  await show("left", answer, tag());
  offer(line);
  if (byPart("beside").value === "bits") await beside(signal);
}

function stem() {
  return state.picture.name.replace(/\.[^.]*$/, "") || "picture";
}

function offer({ made }) {
  for (const [kind, end] of [["vrc", ".vrc"], ["png", ".decoded.png"]]) {
    byPart(kind).href = here(`made/${made}/${kind}`);
    byPart(kind).download = stem() + end;
  }
  byPart("files").hidden = false;
}

// The right side: the original, the map of bits, or another codec's file of the same size.
async function beside(signal) {
  const choice = byPart("beside").value;
  byPart("legend").hidden = true;
  if (choice === "original") return show("right", await ask(here("original")), "original");
  if (choice === "bits") return state.exact ? showBits(signal) : undefined;
  return compare(choice);
}

async function showBits(signal) {
  const answer = await ask(here(`made/${state.exact.made}/bits`), undefined, signal);
  const { mean, largest } = JSON.parse(answer.headers.get("X-Facts"));
  await show("right", answer, "where the bits go");
  const ramp = document.createElement("span");
  ramp.className = "ramp";
  byPart("legend").replaceChildren(
    "Bits for 16×16 pixels: 0", ramp,
    `${number(largest, 0)}; on average ${number(mean, 1)}, by the entropy model.`,
  );
  byPart("legend").hidden = false;
}

function compare(name) {
  const { exact } = state;
  if (!exact?.bytes) return undefined;
  return takeTime(`${state.model.codecs[name]} at this size`, async (signal) => {
    const body = { codec: name, bytes: exact.bytes };
    const facts = { of: exact.made };
    for await (const line of lines(here("compare"), body, signal)) {
      Object.assign(facts, line);
      state.others[name] = facts;
      table();
      if (line.made && byPart("beside").value === name) {
        const title = `${facts.title}, its quality ${facts.quality}`;
        await show("right", await ask(here(`made/${line.made}/shown`), undefined, signal), title);
      }
    }
  });
}

function compareAgain() {
  state.others = {};
  table();
  if (state.model.codecs[byPart("beside").value]) compare(byPart("beside").value);
}

function table() {
  const ours = state.exact?.bytes ? [{ title: "vrcodec", ...state.exact }] : [];
  const rows = [...ours, ...Object.values(state.others).filter((one) => one.bytes)];
  byPart("rows").replaceChildren(...rows.map((facts) => {
    const line = document.createElement("tr");
    line.appendChild(document.createElement("th")).textContent = facts.title;
    const size = number(facts.bytes, 0) + (facts.fits === false ? " (its smallest)" : "");
    const values = state.model.metrics.map((m) => (
      facts[m.name] === undefined ? "…" : number(facts[m.name], m.places)
    ));
    for (const text of [size, ...values]) {
      line.appendChild(document.createElement("td")).textContent = text;
    }
    return line;
  }));
}

// Curve and point, drawn here: one picture's, as its points come.
const SVG = "http://www.w3.org/2000/svg";
function draw(parent, name, attributes, text) {
  const element = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function plot() {
  const figure = byPart("plot");
  figure.querySelector("svg")?.remove();
  const metric = state.model.metrics.find((m) => m.name === byPart("metric").value);
  const points = state.points.filter((one) => Number.isFinite(one[metric.name]));
  figure.hidden = points.length < 2;
  if (figure.hidden) return;
  const [width, height, left, low] = [400, 260, 44, 226];
  const rates = points.map((one) => Math.log2(one.bpp));
  const values = points.map((one) => one[metric.name]);
  const span = (list) => [Math.min(...list), Math.max(...list)];
  const [[a, b], [c, d]] = [span(rates), span(values)];
  const x = (bpp) => left + 8 + ((width - left - 24) * (Math.log2(bpp) - a)) / (b - a || 1);
  const y = (value) => low - 8 - ((low - 24) * (value - c)) / (d - c || 1);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${metric.title} over bits per pixel, of this picture`);
  figure.prepend(svg);
  for (let e = Math.ceil(a); e <= b; e += 1) {
    draw(svg, "line", { class: "grid", x1: x(2 ** e), x2: x(2 ** e), y1: 8, y2: low });
    draw(svg, "text", { x: x(2 ** e), y: low + 14, "text-anchor": "middle" }, String(2 ** e));
  }
  const step = [1, 2, 5, 10, 20, 50].find((one) => (d - c) / one <= 6) ?? 100;
  for (let v = Math.ceil(c / step) * step; v <= d; v += step) {
    draw(svg, "line", { class: "grid", x1: left, x2: width - 8, y1: y(v), y2: y(v) });
    draw(svg, "text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, String(v));
  }
  draw(svg, "text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "bits per pixel");
  draw(svg, "text", { x: left, y: 4, dy: "0.6em" }, `${metric.title} ${metric.unit}`);
  const path = points.map((one) => `${x(one.bpp)},${y(one[metric.name])}`).join(" ");
  draw(svg, "polyline", { class: "own", points: path });
  const words = (one) => `${number(one.bpp, 3)} bpp, ${metric.title} ${number(one[metric.name], metric.places)}`;
  for (const one of points) {
    draw(svg, "circle", {
      class: "point dot", r: 4, cx: x(one.bpp), cy: y(one[metric.name]),
      "aria-label": `quality ${one.quality}: ${words(one)}`,
    });
  }
  const now = state.exact;
  if (now && Number.isFinite(now[metric.name])) {
    draw(svg, "circle", {
      class: "point here", r: 6, cx: x(now.bpp), cy: y(now[metric.name]),
      "aria-label": `here: ${words(now)}`,
    });
  }
}

byPart("curve").addEventListener("submit", (event) => {
  event.preventDefault();
  state.points = [];
  takeTime("the curve", async (signal, progress) => {
    for await (const line of lines(here("curve"), { dials: others() }, signal)) {
      progress(line);
      if (line.point) state.points.push(line.point);
      plot();
    }
  });
});
byPart("metric").addEventListener("change", plot);

function others() {
  const first = state.model.dials[0].name;
  return Object.fromEntries(Object.entries(state.dials).filter(([name]) => name !== first));
}

byPart("target").addEventListener("submit", (event) => {
  event.preventDefault();
  const target = { measure: byPart("measure").value, value: Number(byPart("value").value) };
  stop();
  takeTime("looking for it", async (signal, progress) => {
    state.plain = await receive(here("code"), { dials: others(), target }, signal, progress);
    compareAgain();
  });
});

byPart("effort").addEventListener("submit", (event) => {
  event.preventDefault();
  const effort = Number(byPart("level").value);
  stop();
  takeTime(`effort ${effort}`, async (signal, progress) => {
    const known = JSON.stringify(state.plain?.dials) === JSON.stringify(state.dials);
    if (!known) state.plain = await receive(here("code"), { dials: state.dials }, signal);
    const { plain } = state;
    const now = await receive(here("code"), { dials: state.dials, effort }, signal, progress);
    const bytes = 100 * (now.bytes / plain.bytes - 1);
    const signed = (value, places) => (value > 0 ? "+" : "") + number(value, places).replace("-", "−");
    byPart("bought").textContent = `Effort ${effort}: ${number(now.bytes, 0)} bytes instead of `
      + `${number(plain.bytes, 0)} (${signed(bytes, 1)} %), PSNR ${signed(now.psnr - plain.psnr, 2)} dB.`;
    byPart("bought").hidden = false;
    byPart("state").textContent = `the file, exactly, with effort ${effort}`;
    compareAgain();
  });
});

// Dials come from the weights, of the codec or of a style: sliders in a box.
function makeDials(box, dials, positions, moved) {
  box.replaceChildren(...dials.map((dial) => {
    positions[dial.name] ??= dial.default;
    const row = document.createElement("div");
    row.className = "dial";
    const label = row.appendChild(document.createElement("label"));
    label.textContent = dial.name;
    label.htmlFor = `${box.dataset.part}-${dial.name}`;
    const input = row.appendChild(document.createElement("input"));
    Object.assign(input, { type: "range", id: label.htmlFor, min: 0, max: 1, step: 0.01 });
    input.dataset.dial = dial.name;
    row.appendChild(document.createElement("output")).htmlFor = input.id;
    input.addEventListener("input", () => {
      positions[dial.name] = Number(input.value);
      moved();
    });
    return row;
  }));
}

function followDials(box = byPart("dials"), positions = state.dials) {
  for (const input of box.querySelectorAll("[data-dial]")) {
    const position = positions[input.dataset.dial];
    if (Number(input.value) !== position) input.value = position;
    input.nextElementSibling.textContent = number(position, 2);
    input.setAttribute("aria-valuetext", number(position, 2));
  }
}

// Pictures: chosen, dropped, from the command line, or from before the page was loaded again.
async function open(file) {
  document.body.classList.add("opening");
  try {
    await furnished; // somebody may be quicker than the page
    if (file.size > state.model.max_bytes) {
      throw new Error(`${file.name} has more than ${number(state.model.max_bytes, 0)} bytes`);
    }
    const answer = await ask(`pictures?name=${encodeURIComponent(file.name)}`, file);
    const facts = await answer.json();
    offerPicture(facts);
    await look(facts);
  } catch (error) {
    failed(error);
  } finally {
    document.body.classList.remove("opening");
  }
}

function offerPicture(facts) {
  const choice = byPart("pictures");
  choice.append(new Option(facts.name, facts.id));
  choice.hidden = choice.options.length < 2;
}

async function look(facts) {
  stop();
  Object.assign(state, { picture: facts, exact: null, plain: null, others: {}, points: [] });
  byPart("pictures").value = facts.id;
  history.replaceState(null, "", `#${facts.id}`);
  document.title = `${facts.name} – vrcodec explore`;
  byPart("empty").hidden = true;
  byPart("work").hidden = false;
  byPart("modes").hidden = !state.model.styles;
  const origin = facts.file
    ? ["a .vrc file: beside it is what it shows, and moving a dial codes that again"] : [];
  byPart("notes").textContent = [`${facts.name}, ${facts.width}×${facts.height}`, ...origin, ...facts.notes].join("; ");
  byPart("notes").hidden = false;
  say("");
  stage.size(facts.width, facts.height);
  table();
  plot();
  tell({}, true);
  byPart("files").hidden = byPart("bought").hidden = true;
  byPart("beside").value = "original";
  const original = await ask(here("original"));
  await Promise.all([show("left", original.clone(), "original"), show("right", original, "original")]);
  await lookAgain();
}

// What the left side shows of a picture to begin with, in either mode.
async function lookAgain() {
  const { file } = state.picture;
  if (styling()) restyle();
  else if (file) await lookAtFile(file);
  else move();
}

async function lookAtFile(file) {
  tell({ ...file, ...Object.fromEntries(state.model.metrics.map((m) => [m.name, null])) }, false);
  await take(file);
  byPart("state").textContent = "the file that was opened";
}

byPart("pictures").addEventListener("change", async (event) => {
  try {
    await look(await (await ask(`pictures/${event.target.value}`)).json());
  } catch (error) {
    failed(error);
  }
});
byPart("beside").addEventListener("change", () => beside().catch(failed));
for (const input of document.querySelectorAll("[data-part=file]")) {
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (file) await open(file);
    input.value = "";
  });
}
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  document.body.classList.remove("dropping");
  if (!file) return;
  event.preventDefault();
  open(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (!file) return;
  event.preventDefault();
  open(file);
});

function fill(select, pairs) {
  select.append(...pairs.map(([value, title]) => new Option(title, value)));
}

const MEASURES = {
  size: "size in bytes", bpp: "bits per pixel", psnr: "PSNR in dB", "ms-ssim": "MS-SSIM",
  ssimulacra2: "SSIMULACRA2",
};

function furnish(model) {
  state.model = model;
  makeDials(byPart("dials"), model.dials, state.dials, move);
  fill(byPart("beside"), Object.entries(model.codecs).map(([name, title]) => [name, `${title}, same size`]));
  fill(byPart("measure"), model.targets.map((name) => [name, MEASURES[name]]));
  fill(byPart("level"), model.efforts.slice(1).map((effort) => [effort, effort]));
  byPart("level").value = Math.min(3, model.efforts.at(-1));
  byPart("efforts").hidden = model.efforts.length < 2;
  fill(byPart("metric"), model.metrics.filter((m) => m.name !== "ms_ssim").map((m) => [m.name, m.title]));
  for (const title of ["Codec", "Bytes", ...model.metrics.map((m) => m.title)]) {
    const head = byPart("heads").appendChild(document.createElement("th"));
    head.scope = "col";
    head.textContent = title;
  }
  for (const [name, title] of Object.entries(model.codecs)) {
    const button = byPart("codecs").appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      byPart("beside").value = name;
      beside().catch(failed);
    });
  }
  byPart("limits").textContent = `At most ${number(model.max_pixels / 1e6, 1)} megapixels.`;
  byPart("model").textContent = `Weights ${model.weights}, ${model.runtime}`;
}

let furnished = null; // fulfilled when the page knows its model

async function start() {
  furnished = ask("model").then((answer) => answer.json()).then(furnish);
  await furnished;
  flipByKey(new Map([[byPart("work"), stage]]));
  sayValues(byPart("plot"));
  new ResizeObserver(([{ target }]) => {
    byPart("work").style.setProperty("--frame", `${target.offsetHeight}px`);
  }).observe(byPart("frame"));
  for (const box of document.querySelectorAll(".scroll, figure")) sayMore(box);
  for (const id of new Set([...state.model.pictures, window.location.hash.slice(1)])) {
    if (id) await ask(`pictures/${id}`).then(async (answer) => offerPicture(await answer.json()), () => {});
  }
  const [first] = byPart("pictures").options;
  const wanted = [...byPart("pictures").options].find((one) => one.value === window.location.hash.slice(1));
  const chosen = wanted ?? first;
  if (chosen) await look(await (await ask(`pictures/${chosen.value}`)).json());
}
document.addEventListener("DOMContentLoaded", () => start().catch(failed));
