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
