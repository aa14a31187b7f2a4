// What a user does on the first afternoon, by mouse and keyboard.

import { close, end, expect, harmless, open, say, signIn, told } from "./browser.mjs";

const BOOT = told.real ? 300000 : 30000;

async function step(page, what, act) {
  const began = Date.now();
  try {
    await act();
  } catch (error) {
    await page.screenshot({ path: `${told.pictures}/failed.png`, fullPage: true });
    throw new Error(`${what}: ${error.message}\n${page.url()}: ${(await page.locator("main").innerText()).slice(0, 1500)}`);
  }
  say(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${what}`);
}

const go = (page, path) => page.goto(told.url + path);
const choose = async (page, name, text) => {
  const option = page.locator(`select[name=${name}] option`, { hasText: text }).first();
  await page.selectOption(`select[name=${name}]`, await option.getAttribute("value") ?? (await option.innerText()));
};

async function fill(page, name) {
  await go(page, "/servers/new");
  await page.fill("form[action='/servers/new'] [name=name]", name);
  await choose(page, "image", "tiny");
  await choose(page, "flavor", "m1.tiny");
  await page.click("form[action='/servers/new'] button.primary");
  await page.waitForURL((url) => url.pathname !== "/servers/new");
}

async function withScript() {
  const page = await open();
  await step(page, "signs in", () => signIn(page));
  await step(page, "uploads an image", async () => {
    await go(page, "/images/new");
    await page.fill("[name=name]", "tiny");
    await page.setInputFiles("input[type=file]", told.image);
    await page.click("form[action='/images/new'] button.primary");
    await page.waitForURL(/\/images\/[0-9a-f-]{36}|\/images$/, { timeout: 120000 });
    await page.getByText("active", { exact: true }).first().waitFor({ timeout: 60000 });
  });
  await step(page, "sees the command before launching", async () => {
    await go(page, "/servers/new");
    await page.fill("form[action='/servers/new'] [name=name]", "it's mine");
    await choose(page, "image", "tiny");
    await choose(page, "flavor", "m1.tiny");
    await page.getByText(/openstack server create/).first().waitFor();
  });
  await step(page, "launches a server", () => fill(page, "journey"));
  await step(page, "watches it become active without a reload", async () => {
    if (new URL(page.url()).pathname === "/servers") await page.getByRole("link", { name: "journey" }).click();
    await page.waitForURL(/\/servers\/[0-9a-f-]{36}/);
    await page.evaluate(() => (globalThis.same = true));
    await page.locator("h1 .status", { hasText: "ACTIVE" }).waitFor({ timeout: BOOT });
    expect("the page is still the same page", (await page.evaluate(() => globalThis.same)) === true);
  });
  const server = new URL(page.url()).pathname.split("/").slice(0, 3).join("/");
  if (told.real) {
    await step(page, "types into the serial console", async () => {
      await go(page, server + "/console?kind=serial");
      await page.locator("#console-status.good").waitFor({ timeout: 60000 });
      await page.locator("#console-place .xterm").waitFor();
      const screen = page.locator("#console-place");
      const says = async (text, seconds) => {
        const deadline = Date.now() + seconds * 1000;
        while (!text.test(await screen.innerText())) {
          if (Date.now() > deadline) throw new Error(`the console does not say ${text}: ${(await screen.innerText()).slice(-800)}`);
          await page.waitForTimeout(500);
        }
      };
      await says(/solostack-guest ready/, BOOT / 1000);
      await page.click("#console-place");
      await page.keyboard.press("Enter");
      await says(/login:/, 60);
      await page.keyboard.type("tiny\n");
      await says(/[Pp]assword:/, 60);
      await page.keyboard.type("tiny\n");
      await says(/[$#] *$/m, 60);
      await page.keyboard.type("echo typed-$((6*7))\n");
      await says(/typed-42/, 60);
      await harmless(page, "the serial console");
    });
    await step(page, "sees the screen", async () => {
      await go(page, server + "/console");
      await page.locator("#console-status.good").waitFor({ timeout: 60000 });
      await page.waitForFunction(() => document.querySelector("#console-place canvas")?.width > 100);
      await harmless(page, "the graphical console");
    });
    await step(page, "reads what the guest said", async () => {
      await go(page, server + "/log");
      await page.getByText(/Linux version|solostack-guest/).first().waitFor();
    });
  }
  await step(page, "attaches a floating IP", async () => {
    await go(page, server + "/interfaces");
    await page.locator("summary", { hasText: "Associate a floating IP" }).click();
    await page.getByRole("button", { name: "Associate", exact: true }).click();
    await page.getByRole("button", { name: "Disassociate" }).waitFor();
  });
  await step(page, "deletes it and sees it go", async () => {
    await go(page, server + "/do/delete");
    await page.locator("main form button.danger").click();
    await page.waitForURL(/\/servers(\?.*)?$/);
    await page.getByRole("link", { name: "journey", exact: true }).waitFor({ state: "detached", timeout: 60000 });
  });
  await harmless(page, "the journey");
  await page.context().close();
}

async function withoutScript() {
  const page = await open({ script: false });
  await step(page, "signs in without script", () => signIn(page));
  await step(page, "uploads an image without script", async () => {
    await go(page, "/images/new");
    await page.fill("[name=name]", "tiny too");
    await page.setInputFiles("input[type=file]", told.image);
    await page.click("form[action='/images/new'] button.primary");
    await page.getByText("active", { exact: true }).first().waitFor({ timeout: 120000 });
  });
  await step(page, "launches without script", () => fill(page, "plain"));
  await step(page, "reloads until it is active", async () => {
    await go(page, "/servers");
    await page.getByRole("link", { name: "plain", exact: true }).click();
    const deadline = Date.now() + BOOT;
    while ((await page.locator("h1 .status").innerText()) !== "ACTIVE") {
      if (Date.now() > deadline) throw new Error("it never is");
      await page.waitForTimeout(1000);
      await page.reload();
    }
  });
  const server = new URL(page.url()).pathname;
  await step(page, "attaches a floating IP without script", async () => {
    await go(page, server + "/interfaces");
    await page.locator("summary", { hasText: "Associate a floating IP" }).click();
    await page.getByRole("button", { name: "Associate", exact: true }).click();
    await page.getByRole("button", { name: "Disassociate" }).waitFor();
  });
  await step(page, "deletes without script", async () => {
    await go(page, server + "/do/delete");
    await page.locator("main form button.danger").click();
    const deadline = Date.now() + 60000;
    while (await page.getByRole("link", { name: "plain", exact: true }).count()) {
      if (Date.now() > deadline) throw new Error("it stays");
      await page.waitForTimeout(500);
      await go(page, "/servers");
    }
  });
  await step(page, "signs out without script", async () => {
    await page.locator("button.user").click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL(/\/signin/);
  });
  await page.context().close();
}

await withScript();
await withoutScript();
await close();
end();
