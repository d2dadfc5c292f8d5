"use strict";

function number(value, places) {
  if (value === null) return "–";
  return value.toLocaleString("en", {
    minimumFractionDigits: places, maximumFractionDigits: places,
  });
}

// Two pictures of one size, one over the other; the upper one is cut at a line that can be moved.
class Stage {
  constructor(viewer) {
    this.viewer = viewer;
    this.root = viewer.querySelector("[data-part=stage]");
    this.split = viewer.querySelector("[data-part=split]");
    this.zoom = viewer.querySelector("[data-part=zoom]");
    this.view = viewer.querySelector("[data-part=view]");
    this.button = viewer.querySelector("[data-part=flip]");
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
    this.start = { clientX: 0, clientY: 0 }; // of a drag
    this.sideways = false;
    this.layers.appendChild(document.createElement("div")).className = "line";
    this.split.addEventListener("input", () => this.place());
    this.zoom.addEventListener("change", () => this.scale());
    this.view.addEventListener("change", () => this.look());
    this.button.addEventListener("click", () => this.flip());
    this.layers.addEventListener("pointerdown", (event) => this.drag(event));
    this.layers.addEventListener("pointermove", (event) => this.drag(event));
    this.layers.addEventListener("click", (event) => this.moveTo(event));
    this.place();
  }

  // "fit" fills the column, also with a small picture, but not more than the window's height.
  size(width, height) {
    this.viewer.style.setProperty("--ratio", width / height);
    this.pane.style.aspectRatio = `${width} / ${height}`;
    this.width = width;
    this.scale();
  }

  // All of the left picture, then all of the right one, in the same place.
  flip() {
    const left = this.split.value === "100";
    this.split.value = left ? 0 : 100;
    this.place();
  }

  look() {
    this.pane.classList.toggle("difference", this.view.value === "difference");
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
    pane.classList.toggle("magnified", layers.offsetWidth > 2.5 * this.width);
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

  // A finger that only touches may be about to scroll: it moves the line when it goes sideways,
  // or when it was a tap. An enlarged picture goes with the finger.
  drag(event) {
    const touch = event.pointerType === "touch";
    if (!(event.buttons & 1) || (touch && this.zoom.value !== "1")) return;
    if (event.type === "pointerdown") {
      this.layers.setPointerCapture(event.pointerId);
      this.start = event;
      this.sideways = !touch;
    }
    const [x, y] = [event.clientX - this.start.clientX, event.clientY - this.start.clientY];
    this.sideways ||= Math.abs(x) > Math.abs(y);
    if (this.sideways) this.moveTo(event);
  }

  moveTo(event) {
    const box = this.layers.getBoundingClientRect();
    this.split.value = (100 * (event.clientX - box.left)) / box.width;
    this.place();
  }
}

function part(viewer, name) {
  return viewer.querySelector(`[data-part=${name}]`);
}

// The key F flips the viewer under the pointer or with the focus, else the one most in sight.
function flipByKey(viewers) {
  function inSight(viewer) {
    const { top, bottom } = part(viewer, "stage").getBoundingClientRect();
    return Math.min(bottom, window.innerHeight) - Math.max(top, 0);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "f" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, input[type=text], input[type=number]")) return;
    const all = [...viewers.keys()];
    const viewer = all.find((one) => one.contains(document.activeElement))
      ?? all.find((one) => one.matches(":hover"))
      ?? all.reduce((best, one) => (inSight(one) > inSight(best) ? one : best), all[0]);
    if (!viewer) return;
    event.preventDefault();
    viewers.get(viewer).flip();
  });
}

// What a point in a plot says, beside it; titles are too slow, and not there for fingers.
function sayValues(figure) {
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  for (const title of figure.querySelectorAll(".point title")) {
    const point = title.parentElement;
    point.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  function say(event) {
    let nearest = null;
    let shortest = event.pointerType === "mouse" ? 18 : 32;
    for (const point of figure.querySelectorAll(".point")) {
      const box = point.getBoundingClientRect();
      const distance = Math.hypot(
        box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY,
      );
      if (distance < shortest) [nearest, shortest] = [point, distance];
    }
    tip.hidden = !nearest;
    if (!nearest) return;
    tip.textContent = nearest.getAttribute("aria-label");
    const [box, frame] = [nearest.getBoundingClientRect(), figure.getBoundingClientRect()];
    const x = box.left - frame.left + figure.scrollLeft;
    const room = figure.scrollLeft + frame.width - tip.offsetWidth;
    tip.style.left = `${Math.max(figure.scrollLeft, Math.min(x + 10, room))}px`;
    tip.style.top = `${box.top - frame.top - tip.offsetHeight - 6}px`;
  }
  figure.addEventListener("pointermove", say);
  figure.addEventListener("pointerdown", say);
  // A finger leaves as soon as it is lifted; what it asked for stays until it touches elsewhere.
  figure.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") tip.hidden = true;
  });
  document.addEventListener("pointerdown", (event) => {
    if (!figure.contains(event.target)) tip.hidden = true;
  });
}

// Says that a table goes on beyond the edge, for as long as it does.
function sayMore(box) {
  function look() {
    const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("cut", rest > 4);
    box.nextElementSibling.hidden = box.scrollWidth - box.clientWidth <= 4;
  }
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
  for (const inner of box.children) new ResizeObserver(look).observe(inner);
}
