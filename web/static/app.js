// What makes the pages livelier. Every one of them works without it.

const main = document.getElementById("main");
const stale = document.getElementById("stale");

// -- following the page ---------------------------------------------------------------------------------------------
// Marks, texts under way and folds that somebody opened are the reader's: a new inside does not take them away.
const callbacks = {
  beforeAttributeUpdated(name, node) {
    if (node.tagName === "DETAILS" && name === "open") return false;
    if (node.tagName === "INPUT" && name === "checked") return false;
  },
  beforeNodeMorphed(old) {
    if (old.nodeType === 1 && old.hasAttribute("data-keep")) return false;
  },
};

function patch(inside) {
  const marked = new Set([...main.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.name + "\n" + box.value));
  globalThis.Idiomorph.morph(main, inside, { morphStyle: "innerHTML", ignoreActiveValue: true, callbacks });
  for (const box of main.querySelectorAll("input[type=checkbox]")) {
    if (marked.has(box.name + "\n" + box.value)) box.checked = true;
  }
  freshen();
}

let stream;
function follow() {
  stream?.close();
  if (!main?.hasAttribute("data-live")) return;
  stream = new EventSource("/live?page=" + encodeURIComponent(location.pathname + location.search));
  stream.addEventListener("page", (event) => {
    stale.hidden = true;
    patch(event.data);
  });
  stream.addEventListener("over", () => {
    stream.close();
    location.reload();
  });
  stream.addEventListener("error", () => (stale.hidden = false));
  stream.addEventListener("open", () => (stale.hidden = true));
}
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", follow);

// -- filters: the table changes while one types, and so does the address --------------------------------------------
let typing;
async function filter(form) {
  const address = location.pathname + "?" + new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  const reply = await fetch(address, { headers: { "X-Part": "1" } });
  if (!reply.ok) return location.assign(address);
  history.replaceState(null, "", address);
  patch(await reply.text());
  follow();
}
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-filter]");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => filter(form), event.target.matches("input[type=search]") ? 250 : 0);
});

// -- marks, copies ------------------------------------------------------------------------------------------------------
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.all;
  if (!name) return;
  for (const box of event.target.closest("table").querySelectorAll("input[type=checkbox]")) {
    if (box.name === name) box.checked = event.target.checked;
  }
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.dataset.copied = "";
});

// -- times as this browser's clock has them -------------------------------------------------------------------------------
function freshen() {
  for (const node of document.querySelectorAll("time[datetime]")) {
    const time = new Date(node.dateTime.endsWith("Z") || /[+-]\d\d:\d\d$/.test(node.dateTime) ? node.dateTime : node.dateTime + "Z");
    if (Number.isNaN(time.valueOf())) continue;
    node.textContent = time.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    node.title = time.toISOString();
  }
}
freshen();

// -- the palette: Ctrl-K finds things and does actions ----------------------------------------------------------------------
const palette = document.getElementById("palette");
const keys = document.getElementById("keys");
let asked = 0;
async function find(text) {
  const mine = ++asked;
  const reply = await fetch("/search?" + new URLSearchParams({ q: text }), { headers: { "X-Part": "1" } });
  if (mine !== asked) return;
  if (!reply.ok) return location.assign("/search?" + new URLSearchParams({ q: text }));
  // Made by the server, which escapes whatever people wrote.
  const part = document.createElement("template");
  part.innerHTML = await reply.text();
  if (mine !== asked) return;
  for (const node of part.content.querySelectorAll("[data-part-skip]")) node.remove();
  for (const node of part.content.querySelectorAll("[id]")) node.id = "palette-" + node.id;
  for (const node of part.content.querySelectorAll("[aria-labelledby]")) node.setAttribute("aria-labelledby", "palette-" + node.getAttribute("aria-labelledby"));
  palette.querySelector(".found").replaceChildren(part.content);
}
function openPalette() {
  if (!palette || palette.open) return;
  palette.showModal();
  const input = palette.querySelector("input");
  input.focus();
  input.select();
  find(input.value);
}
let finding;
palette?.querySelector("input").addEventListener("input", (event) => {
  clearTimeout(finding);
  finding = setTimeout(() => find(event.target.value), 150);
});
palette?.querySelector("form").addEventListener("submit", (event) => {
  const first = palette.querySelector("a[data-hit]");
  if (!first) return;
  event.preventDefault();
  location.assign(first.href);
});
palette?.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const stops = [palette.querySelector("input"), ...palette.querySelectorAll("a[data-hit]")];
  stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length].focus();
});
for (const dialog of [palette, keys]) {
  // A click beside it closes it.
  dialog?.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

// -- keys: `?` lists them, `g` and a letter goes somewhere -------------------------------------------------------------------
const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.checked = localStorage.getItem("keys") !== "off";
  keysOn.addEventListener("change", () => localStorage.setItem("keys", keysOn.checked ? "on" : "off"));
}
let going = 0;
document.addEventListener("keydown", (event) => {
  // Consoles have every key to themselves.
  if (!keys || event.defaultPrevented || event.target.closest?.("canvas, .console, .xterm")) return;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    return openPalette();
  }
  const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !keysOn.checked) return;
  if (event.key === "?") return keys.showModal();
  if (event.key === "g") return void (going = Date.now());
  const jump = Date.now() - going < 1500 && /^[a-z]$/.test(event.key) && keys.querySelector(`[data-jump="${event.key}"]`);
  going = 0;
  if (jump) location.assign(jump.href);
});
