// Every page that links lead to, in both themes: accessible, harmless, light, complete. With `screens` a picture of each.

import fs from "node:fs";
import https from "node:https";
import { accessible, close, end, expect, fail, harmless, open, say, signIn, told } from "./browser.mjs";

/** Pages that are one but for the thing they show: `/servers/{}`. */
const shape = (path) => path.replace(/[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}/gi, "{}").replace(/\/(keypairs|resource-classes)\/[^/?]+/, "/$1/{}").replace(/\?.*$/, "");
const EACH = 1;
const FIRST_PAGE_BYTES = 60 * 1024;

async function pages() {
  const page = await open();
  await signIn(page);
  const queue = ["/"], seen = new Map(), found = [], known = new Set(queue);
  while (queue.length) {
    const path = queue.shift();
    const reply = await page.goto(told.url + path, { waitUntil: "load" }).catch((error) => {
      // A link to a file to keep is no page.
      if (!/Download|ERR_ABORTED/.test(error.message)) fail(`${path}: ${error.message}`);
      return null;
    });
    if (!reply) continue;
    expect(`${path} is there`, reply.status() === 200, reply.status());
    if (reply.status() !== 200 || !(reply.headers()["content-type"] ?? "").startsWith("text/html")) continue;
    found.push(path);
    const links = await page.$$eval("a[href]", (nodes) => nodes.map((node) => new URL(node.getAttribute("href"), document.baseURI).href));
    for (const link of links) {
      const address = new URL(link, told.url);
      if (address.origin !== new URL(told.url).origin || /^\/(static|ca\.crt|(identity|compute|image|network|placement)\/)/.test(address.pathname)) continue;
      const next = address.pathname + address.search, kind = shape(next);
      if (known.has(next) || (seen.get(kind) ?? 0) >= EACH || address.search.includes("marker=")) continue;
      known.add(next);
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      queue.push(next);
    }
  }
  await page.context().close();
  return found;
}

async function judge(found, theme) {
  const page = await open({ theme });
  await signIn(page);
  for (const path of found) {
    const what = `${path} (${theme})`;
    await page.goto(told.url + path);
    expect(`${what} has one heading of the first kind`, (await page.locator("h1").count()) === 1);
    expect(`${what} has nothing inline`, (await page.locator("main [style], main [onclick], main script:not([src])").count()) === 0 || /console/.test(path));
    await accessible(page, what);
    await harmless(page, what);
    if (told.screens) {
      const name = shape(path).replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "overview";
      await page.screenshot({ path: `${told.screens}/${name}-${theme}.png`, fullPage: true });
    }
  }
  await page.context().close();
}

/** All bytes of a first visit, as they come over the wire. */
async function weight(path, signed) {
  const page = await open();
  if (signed) {
    await signIn(page);
    // The cache goes, the session stays.
    const session = await page.context().newCDPSession(page);
    await session.send("Network.clearBrowserCache");
  }
  await page.goto(told.url + path, { waitUntil: "load" });
  const bytes = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((sum, entry) => sum + entry.encodedBodySize, 0));
  say(`${path}: ${(bytes / 1024).toFixed(1)} KiB compressed on a first visit`);
  expect(`a first visit of ${path} takes at most 60 KiB`, bytes > 0 && bytes <= FIRST_PAGE_BYTES, bytes);
  await page.context().close();
}

/** Milliseconds from request to last byte. */
function once(path, cookie, agent) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const headers = { cookie, "accept-encoding": "gzip" };
    https.get(told.url + path, { agent, headers, rejectUnauthorized: false }, (reply) => {
      if (reply.statusCode !== 200) fail(`${path} answers ${reply.statusCode}`);
      reply.resume().on("end", () => resolve(performance.now() - began));
    }).on("error", reject);
  });
}

/** The server's time for each page, the median of some. The browser only signs in: its own work, and the pages that it follows, would count. */
async function speed(found) {
  const page = await open();
  await signIn(page);
  const cookies = await page.context().cookies();
  const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
  await page.context().close();
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (const path of found) {
    const times = [];
    for (let round = 0; round < told.rounds; round++) times.push(await once(path, cookie, agent));
    times.sort((a, b) => a - b);
    const median = times[Math.floor(times.length / 2)];
    say(`${median.toFixed(1).padStart(8)} ms  ${path}`);
    expect(`${path} takes the server at most ${told.bar} ms`, median <= told.bar, median.toFixed(1));
  }
  agent.destroy();
}

if (told.screens) fs.mkdirSync(told.screens, { recursive: true });
const found = await pages();
say(`${found.length} pages: ${found.map(shape).join(" ")}`);
expect("links lead to the pages of every service", found.length >= told.least, found.length);
if (told.bar) {
  await speed(found);
} else {
  await judge(found, "light");
  await judge(found, "dark");
  await weight("/signin", false);
  await weight("/", true);
  await weight("/servers", true);
}
await close();
end();
