// One headless Chromium, and the person who is signed in.

import fs from "node:fs";
import { createRequire } from "node:module";

const modules = process.argv[2];
const require = createRequire(modules + "/package.json");
export const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** What the script that runs this says: {url, name, password, out, ...}. */
export const told = JSON.parse(process.argv[3]);

export function say(text) {
  console.log(text);
}

const failures = [];
export function fail(text) {
  if (!failures.includes(text)) failures.push(text);
  console.log("NOT SO: " + text);
}
export function expect(what, condition, seen = "") {
  if (!condition) fail(what + (seen === "" ? "" : `; seen: ${seen}`));
}
export function end() {
  console.log(failures.length ? `${failures.length} things are not as they should be` : "all of it held");
  process.exitCode = failures.length ? 1 : 0;
}

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
export const close = () => browser.close();

/** A window of its own: cookies, theme, script or none. What a page must never do is noted as a failure. */
export async function open({ script = true, theme = "light", size = { width: 1280, height: 800 }, language = "en-GB" } = {}) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true, javaScriptEnabled: script, colorScheme: theme, viewport: size, locale: language, acceptDownloads: true,
  });
  context.setDefaultTimeout(60000);
  if (script) {
    await context.addInitScript(() => {
      globalThis.reports = [];
      addEventListener("securitypolicyviolation", (event) => globalThis.reports.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
    });
  }
  const page = await context.newPage();
  page.on("pageerror", (error) => fail(`${page.url()}: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Refused to/.test(message.text())) fail(`${page.url()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith(told.url) && !address.startsWith("data:") && !address.startsWith("blob:") && !address.startsWith(told.url.replace("https", "wss"))) fail(`${page.url()} asks for ${address}`);
  });
  page.on("dialog", (dialog) => {
    fail(`${page.url()} opens a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  return page;
}

export async function signIn(page, name = told.name, password = told.password) {
  await page.goto(told.url + "/signin");
  await page.fill("[name=name]", name);
  await page.fill("[name=password]", password);
  await page.click("button.primary");
  await page.waitForLoadState();
  expect("signing in leads to the overview", new URL(page.url()).pathname === "/", page.url());
}

/** WCAG 2.2 AA, as far as a program can judge it. */
export async function accessible(page, what) {
  const found = await page.evaluate(async (source) => {
    if (!globalThis.axe) (0, eval)(source);
    const run = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] };
    const result = await globalThis.axe.run(document, run);
    return result.violations.map((rule) => `${rule.id} (${rule.help}): ${rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 140)).join(" | ")}`);
  }, axe);
  for (const violation of found) fail(`${what}: ${violation}`);
}

/** Nothing that somebody wrote has become markup, and nothing was asked for that the policy forbids. */
export async function harmless(page, what) {
  const seen = await page.evaluate(() => ({ owned: globalThis.owned, reports: globalThis.reports }));
  expect(`${what}: what people write stays text`, seen.owned === undefined, seen.owned);
  expect(`${what}: the Content-Security-Policy has nothing to report`, seen.reports.length === 0, seen.reports.join("; "));
}
