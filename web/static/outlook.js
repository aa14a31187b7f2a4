// A form that shows what it would do while it is filled in: `form[data-outlook]` asks that address, and `#outlook` shows it.
const form = document.querySelector("form[data-outlook]");
const panel = document.getElementById("outlook");

let typing;
let asking;
async function look() {
  asking?.abort();
  asking = new AbortController();
  const data = new FormData(form);
  for (const input of form.querySelectorAll("input[type=file]")) {
    // That there is a file is all that is shown of it.
    data.set(input.name, input.files.length ? "-" : "");
  }
  try {
    const headers = { "X-CSRF-Token": data.get("_csrf") };
    const reply = await fetch(form.dataset.outlook, { method: "POST", headers, body: data, signal: asking.signal });
    if (reply.ok && !reply.redirected) panel.innerHTML = await reply.text();
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}
form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(look, 200);
});
// A browser that comes back fills the form in again, and says nothing.
addEventListener("pageshow", look);
