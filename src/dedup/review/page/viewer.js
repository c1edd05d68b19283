// Two images at one place and one zoom: flick between them, or see where they differ.

import { $, el, fill } from "./dom.js";
import { get, pictureOf } from "./client.js";

const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

export class Viewer {
  constructor() {
    this.dialog = $("viewer");
    this.zoom = 0;
    this.at = 0;
    this.origin = [50, 50];
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    $("stage").addEventListener("pointermove", (event) => this.move(event));
    $("stage").addEventListener("click", () => this.flick());
    $("stage").addEventListener("wheel", (event) => {
      event.preventDefault();
      this.resize(event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
  }

  get isOpen() { return this.dialog.open; }

  /** Show a pair: two labels and two digests. */
  open(labels, digests, isDifference) {
    this.labels = labels;
    this.sources = [...digests.map(pictureOf), `/pictures/${digests[0]}/${digests[1]}.jpg`];
    this.digests = digests;
    this.at = isDifference ? 2 : 1;
    this.zoom = 0;
    const button = (label, keys, call) => el("button", { type: "button", "aria-keyshortcuts": keys, onclick: call }, label, " ", el("kbd", {}, keys));
    fill($("viewer-bar"),
      el("strong", { id: "viewer-label" }),
      el("span", { class: "spread" }),
      button("Flick", "F", () => this.flick()),
      button("Difference", "D", () => this.show(2)),
      button("Zoom in", "+", () => this.resize(1)),
      button("Zoom out", "−", () => this.resize(-1)),
      button("Close", "Esc", () => this.dialog.close()));
    this.images = this.sources.map((source) => el("img", { src: source, alt: "", draggable: "false" }));
    this.images[2].addEventListener("error", () => { this.failed = true; this.show(this.at); });
    this.failed = false;
    fill($("stage"), ...this.images);
    this.show(this.at);
    if (!this.dialog.open) this.dialog.showModal();
  }

  flick() { this.show(this.at === 0 ? 1 : 0); }

  show(at) {
    this.at = at;
    this.images.forEach((image, number) => { image.style.visibility = number === at ? "visible" : "hidden"; });
    const label = at < 2 ? this.labels[at] : this.failed ? "These images cannot be laid over each other" : "Red: where they differ";
    $("viewer-label").textContent = label;
    this.place();
  }

  resize(step) {
    this.zoom = Math.max(0, Math.min(ZOOMS.length - 1, this.zoom + step));
    this.place();
  }

  move(event) {
    const box = $("stage").getBoundingClientRect();
    this.origin = [((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100];
    this.place();
  }

  place() {
    for (const image of this.images) {
      image.style.transformOrigin = `${this.origin[0]}% ${this.origin[1]}%`;
      image.style.transform = `scale(${ZOOMS[this.zoom]})`;
    }
  }

  key(event) {
    const key = event.key.toLowerCase();
    const calls = { f: () => this.flick(), d: () => this.show(this.at === 2 ? 1 : 2), "+": () => this.resize(1), "=": () => this.resize(1),
      "-": () => this.resize(-1), "0": () => { this.zoom = 0; this.place(); } };
    if (calls[key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      calls[key]();
    }
  }
}

const regions = new Map();

/** Outline the region that differs on an image's frame, once the server knows it. */
export function outline(frame, left, right) {
  const key = `${left}/${right}`;
  if (!regions.has(key)) regions.set(key, get("/api/difference", { left, right }).catch(() => ({ region: null })));
  regions.get(key).then(({ region }) => {
    if (!region || !frame.isConnected || region[2] * region[3] > 0.9) return;
    const mark = el("span", { class: "region", "aria-hidden": "true" });
    [["left", 0], ["top", 1], ["width", 2], ["height", 3]].forEach(([name, at]) => { mark.style[name] = `${region[at] * 100}%`; });
    frame.append(mark);
  });
}
