// Images that were fetched and decoded before they are needed; such an element paints at once.

import { pictureOf } from "./client.js";

const MOST = 400;
const known = new Map();

function make(digest) {
  const image = new Image();
  image.src = pictureOf(digest);
  image.draggable = false;
  known.delete(digest);
  known.set(digest, image);
  if (known.size > MOST) known.delete(known.keys().next().value);
  return image;
}

/** Fetch images, and decode them. */
export function preload(digests) {
  for (const digest of new Set(digests)) {
    if (digest && !known.has(digest)) make(digest).decode().catch(() => undefined); // its place says that it is missing
  }
}

/** An element of an image: the decoded one, unless the page shows that already. */
export function imageOf(digest, alt) {
  const ready = known.get(digest);
  const image = ready && !ready.isConnected && !ready.dataset.taken ? ready : make(digest);
  image.alt = alt;
  image.dataset.taken = "yes";
  queueMicrotask(() => delete image.dataset.taken);
  return image;
}
