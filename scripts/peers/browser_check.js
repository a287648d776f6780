// Goes through the pages of a running daemon in Chromium, as a person does, and prints what is wrong.
//
//   NODE_MODULES=DIR BIN=CHROMIUM node browser_check.js SETTINGS
//
// SETTINGS is JSON: url, token (it may do everything), reader (a token that only reads), size (the number of connections), pid (the
// daemon, which the part "outage" stops), parts (a list of the names of PARTS below), csv (a file that a new connection can read).
// AAM_SCREENSHOTS names a folder for screenshots of every page. The status is 1 if anything is wrong.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const modules = process.env.NODE_MODULES;
const { chromium } = require(path.join(modules, "playwright-core"));
const AXE = fs.readFileSync(path.join(modules, "axe-core/axe.min.js"), "utf8");

const settings = JSON.parse(process.argv[2]);
const SCREENSHOTS = process.env.AAM_SCREENSHOTS;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-proxy-server"];
const VIEWPORTS = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
// The rules whose result depends on colours.
const COLOUR_RULES = ["color-contrast", "link-in-text-block"];
const MAX_LINKS = 150;

const failures = [];
const check = (condition, text) => {
  if (!condition) failures.push(text);
  return Boolean(condition);
};
const say = (text) => console.log(text);

// Notes what must not happen on any page: console messages, errors of scripts, requests to another origin, failed requests.
const watch = (page, name) => {
  const state = { expectsOutage: false };
  const report = (text) => {
    if (!state.expectsOutage) failures.push(`${name}: ${page.url()}: ${text}`);
  };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) report(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => report(`script error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && new URL(url).origin !== settings.url) failures.push(`${name}: request to another origin: ${url}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) report(`status ${response.status()}: ${response.url()}`);
  });
  return state;
};

const newPage = async (browser, viewport, name) => {
  const context = await browser.newContext({ viewport: VIEWPORTS[viewport], colorScheme: "light" });
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  return { context, page, state: watch(page, name) };
};

const open = async (page, address) => {
  const answer = await page.goto(settings.url + address);
  check(answer.status() === 200, `${address}: status ${answer.status()}`);
};

const signIn = async (page, token, next = "/") => {
  await page.goto(settings.url + next);
  check(new URL(page.url()).pathname === "/ui/sign-in", `${next} without a session leads to ${page.url()}, not to the page to sign in`);
  await page.fill("input[name=token]", token);
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname !== "/ui/sign-in");
  const expected = new URL(settings.url + next);
  check(page.url() === expected.href, `signing in leads to ${page.url()}, not to ${expected.href}`);
};

// Calls the API as a script does.
const api = async (method, address, body) => {
  const headers = { authorization: `Bearer ${settings.token}`, "content-type": "application/json", prefer: "wait=30" };
  const answer = await fetch(settings.url + address, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${address}: ${answer.status} ${text}`);
  return JSON.parse(text);
};

const intent = (file) => ({
  source_type: "filesource", resource_ids: [file], scopes_mode: "safe_readonly", namespace: "autonomy", risk_level: "low",
  evidence: { status: "Sanctioned", source: "CMDB", ts: "2026-11-08T18:00:00Z" },
  owner: { user: "owner@acme.example", confidence: 0.95, why: "admin" },
});

const violations = async (page, runOnly) => {
  await page.evaluate(AXE);
  const found = await page.evaluate((runOnly) => axe.run(document, { runOnly, resultTypes: ["violations"] }), runOnly);
  return found.violations.flatMap((rule) => {
    const nodes = rule.nodes.slice(0, 3).map((node) => `${node.target.join(" ")}: ${(node.failureSummary || "").replace(/\s+/g, " ")}`);
    return [`axe ${rule.id}, ${rule.nodes.length} elements: ${nodes.join(" | ")}`];
  });
};

const screenshot = async (page, name, theme, address) => {
  if (!SCREENSHOTS) return;
  const slug = address.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, "id").replace(/at=.*/, "past").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "") || "home";
  await page.screenshot({ path: path.join(SCREENSHOTS, `${settings.size}-${name}-${theme}-${slug}.png`), fullPage: true });
};

const overflow = (page) =>
  page.evaluate(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return "";
    // What a part that scrolls by itself holds is not meant.
    const isClipped = (part) => {
      for (let parent = part.parentElement; parent; parent = parent.parentElement) {
        if (getComputedStyle(parent).overflowX !== "visible") return true;
      }
      return false;
    };
    const wide = [...document.querySelectorAll("body *")].filter((part) => part.getBoundingClientRect().right > root.clientWidth + 1 && !isClipped(part));
    return `${root.scrollWidth} px: ${wide.slice(0, 3).map((part) => `${part.tagName}#${part.id}.${part.getAttribute("class")}`).join(", ")}`;
  });

// Looks at one page in both themes, closed and with all its parts open.
const examine = async (page, viewport, address) => {
  const where = `${settings.size} connections, ${viewport}, ${address}`;
  await page.emulateMedia({ colorScheme: "light" });
  await open(page, address);
  check(await page.locator("main h1").count() === 1, `${where}: ${await page.locator("main h1").count()} main headings`);
  check(await page.evaluate(() => document.scripts.length) === 1, `${where}: the page has another script`);
  check(await page.locator("main img, main iframe, main object").count() === 0, `${where}: a text became an element`);
  check(await overflow(page) === "", `${where}: scrolls sideways: ${await overflow(page)}`);
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme });
    await screenshot(page, viewport, theme, address);
  }
  await page.evaluate(() => document.querySelectorAll("details:not(.menu)").forEach((part) => (part.open = true)));
  check(await overflow(page) === "", `${where}: scrolls sideways with open parts: ${await overflow(page)}`);
  for (const text of await violations(page, { type: "rule", values: COLOUR_RULES })) failures.push(`${where}, dark: ${text}`);
  await page.emulateMedia({ colorScheme: "light" });
  if (viewport === "desktop") {
    // A zoom of 200 % halves the width and the height in CSS pixels.
    const { width, height } = VIEWPORTS.desktop;
    await page.setViewportSize({ width: width / 2, height: height / 2 });
    check(await overflow(page) === "", `${where}: scrolls sideways at 200 %: ${await overflow(page)}`);
    await page.setViewportSize(VIEWPORTS.desktop);
  }
  for (const text of await violations(page, { type: "tag", values: TAGS })) failures.push(`${where}, light: ${text}`);
};

// Addresses of all pages, with a connection of each state and a family.
const addresses = async (page) => {
  const fixed = ["/", "/ui/connections", "/ui/policy", "/ui/families", "/ui/problems", "/ui/ledger", "/ui/about"];
  const found = new Set([...fixed, "/ui/connections?q=matches-nothing", `/?at=${new Date(Date.now() - 60000).toISOString()}`]);
  const first = async (list, css) => {
    await open(page, list);
    const link = page.locator(css).first();
    if (await link.count()) found.add(await link.getAttribute("href"));
  };
  for (const state of ["ACTIVE", "HEALING", "ERROR", "NETWORK_BLOCKED", "AWAITING_CREDENTIALS", "UNSUPPORTED", "REJECTED"]) {
    await first(`/ui/connections?state=${state}`, "a[data-row]");
  }
  await first("/ui/families", 'main a[href*="/ui/families/"]');
  const connections = [...found].filter((address) => address.includes("/ui/connections/"));
  check(settings.size === 0 || connections.length >= Math.min(settings.size, 3), `only ${connections.length} pages of connections were found`);
  return [...found];
};

// Every link of the pages that were seen leads somewhere.
const followLinks = async (context, links) => {
  const own = [...links].filter((link) => link.startsWith(settings.url)).map((link) => link.split("#")[0]);
  for (const link of [...new Set(own)].slice(0, MAX_LINKS)) {
    const answer = await context.request.get(link, { maxRedirects: 0 });
    check(answer.status() === 200, `a link leads to status ${answer.status()}: ${link}`);
  }
};

const pages = async (browser) => {
  for (const viewport of Object.keys(VIEWPORTS)) {
    const { context, page } = await newPage(browser, viewport, `pages, ${viewport}`);
    await page.goto(`${settings.url}/ui/sign-in`);
    for (const text of await violations(page, { type: "tag", values: TAGS })) failures.push(`sign-in, ${viewport}: ${text}`);
    check(await overflow(page) === "", `sign-in, ${viewport}: scrolls sideways: ${await overflow(page)}`);
    for (const theme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: theme });
      await screenshot(page, viewport, theme, "/ui/sign-in");
    }
    for (const text of await violations(page, { type: "rule", values: COLOUR_RULES })) failures.push(`sign-in, ${viewport}, dark: ${text}`);
    await signIn(page, settings.token);
    const links = new Set(), all = await addresses(page);
    for (const address of all) {
      await examine(page, viewport, address);
      for (const href of await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((link) => new URL(link.getAttribute("href"), document.baseURI).href))) links.add(href);
    }
    if (viewport === "desktop") await followLinks(context, links);
    say(`${settings.size} connections, ${viewport}: ${all.length} pages, ${links.size} different links`);
    await context.close();
  }
};

// A reader who opens the page for the first time finds coverage, the largest blocker and its fix without scrolling.
const answer = async (browser) => {
  const { context, page } = await newPage(browser, "desktop", "answer");
  await signIn(page, settings.token);
  const parts = { coverage: "#answer h1", blocker: ".cause .cause-title", fix: ".cause .fix p" };
  for (const [name, css] of Object.entries(parts)) {
    const part = page.locator(css).first();
    if (!check(await part.count(), `home does not have ${name} (${css})`)) continue;
    const box = await part.boundingBox(), text = (await part.textContent()).trim();
    say(`${name}, ${Math.round(box.y)} to ${Math.round(box.y + box.height)} px: ${text}`);
    check(box.y >= 0 && box.y + box.height <= VIEWPORTS.desktop.height, `${name} is at ${box.y} px, which needs scrolling`);
  }
  check(/\d+ % connected/.test(await page.textContent("#answer h1")), `the answer is ${await page.textContent("#answer h1")}`);
  // The paper has the ten causes whose fix gains the most, also those that are folded on the screen.
  await page.emulateMedia({ media: "print" });
  const causes = page.locator(".attention > ol.causes:not(#no-gain ~ ol) > li.cause, #more-raising li.cause");
  const onPaper = await causes.evaluateAll((items) => items.filter((item) => item.getBoundingClientRect().height > 0).length);
  const expected = Math.min(10, await causes.count());
  check(onPaper === expected, `home prints ${onPaper} causes, not ${expected}`);
  // A page that emulates the screen is also printed as it is on the screen.
  await page.emulateMedia({ media: null });
  const pdf = await page.pdf({ format: "A4" });
  const printed = (pdf.toString("latin1").match(/\/Type\s*\/Page\b(?!s)/g) || []).length;
  check(printed === 1, `home is printed on ${printed} pages`);
  if (SCREENSHOTS) fs.writeFileSync(path.join(SCREENSHOTS, `${settings.size}-home.pdf`), pdf);
  await context.close();
};

// The time to the first byte and the size of a list, over plain HTTP.
const get = (address, encoding) =>
  new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${settings.token}`, accept: "text/html", "accept-encoding": encoding };
    const begun = performance.now();
    http.get(settings.url + address, { headers, agent: false }, (response) => {
      let first = 0, bytes = 0;
      response.on("data", (part) => {
        first ||= performance.now() - begun;
        bytes += part.length;
      });
      response.on("end", () => resolve({ status: response.statusCode, first, bytes }));
    }).on("error", reject);
  });

const speed = async () => {
  for (const address of ["/ui/connections", "/ui/connections?q=acme&sort=owner", "/ui/connections?page=100", "/"]) {
    const times = [];
    let plain, zipped;
    for (let n = 0; n < 9; n++) {
      plain = await get(address, "identity");
      zipped = await get(address, "gzip");
      check(plain.status === 200, `${address}: status ${plain.status}`);
      times.push(plain.first, zipped.first);
    }
    times.sort((a, b) => a - b);
    say(`${settings.size} connections, ${address}: first byte ${times[9].toFixed(1)} ms (median of ${times.length}), ${plain.bytes} bytes, ${zipped.bytes} compressed`);
    check(!address.startsWith("/ui/connections") || plain.bytes < 100_000, `${address} has ${plain.bytes} bytes`);
  }
};

const focused = (page) => page.evaluate(() => document.activeElement.getAttribute("href") || document.activeElement.id);

const keyboard = async (browser) => {
  const { context, page } = await newPage(browser, "desktop", "keyboard");
  await signIn(page, settings.token);
  await page.keyboard.press("/");
  await page.waitForURL(/\/ui\/connections#search$/);
  check(await focused(page) === "search", `/ on another page focuses ${await focused(page)}`);
  await page.keyboard.type("csv j?");
  check(await page.inputValue("#search") === "csv j?" && !(await page.locator("dialog[open]").count()), "a key has an effect while typing");
  await page.fill("#search", "csv");
  await page.keyboard.press("Enter");
  await page.waitForURL(/[?&]q=csv/);
  const rows = await page.locator("a[data-row]").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  check(rows.length > 1, "the search finds two rows");
  const steps = [["j", rows[0]], ["j", rows[1]], ["k", rows[0]], ["k", rows[0]]];
  for (const [key, row] of steps) {
    await page.keyboard.press(key);
    check(await focused(page) === row, `${key} moves to ${await focused(page)}, not to ${row}`);
  }
  await page.keyboard.press("?");
  check(await page.isVisible("dialog#keys"), "? does not show the keys");
  for (const text of await violations(page, { type: "tag", values: TAGS })) failures.push(`keys: ${text}`);
  await screenshot(page, "desktop", "light", "keys");
  await page.keyboard.press("Escape");
  check(!(await page.isVisible("dialog#keys")), "Escape does not close the keys");
  await page.click("#namespaces > summary");
  await page.keyboard.press("Escape");
  check(await page.locator("details.menu[open]").count() === 0, "Escape does not close a menu");
  await page.click("#namespaces > summary");
  await page.click("h1");
  check(await page.locator("details.menu[open]").count() === 0, "a click elsewhere does not close a menu");
  await page.locator("a[data-row]").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.href === settings.url + rows[0]);
  await page.keyboard.press("g");
  await page.keyboard.press("h");
  await page.waitForURL(`${settings.url}/`);
  const slider = page.locator("#trend-point");
  if (check(await slider.count(), "home does not have a trend")) {
    await slider.focus();
    const before = await page.textContent("#trend-value");
    await page.keyboard.press("Home");
    // A daemon that has just started has one point.
    const isOne = await slider.evaluate((input) => input.min === input.max);
    check(isOne || await page.textContent("#trend-value") !== before, `the trend says ${before} at its beginning and at its end`);
  }
  await context.close();
};

const copying = async (browser) => {
  const { context, page } = await newPage(browser, "desktop", "copying");
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signIn(page, settings.token);
  const button = page.locator("main button.copy:visible").first();
  const text = await button.getAttribute("data-copy"), label = await button.textContent();
  await button.click();
  await page.waitForFunction(() => [...document.querySelectorAll("button.copy")].some((one) => one.textContent === "Copied"));
  check(await page.evaluate(() => navigator.clipboard.readText()) === text, "the clipboard does not have the text");
  await page.waitForFunction(() => ![...document.querySelectorAll("button.copy")].some((one) => one.textContent === "Copied"));
  check(await button.textContent() === label, "the button does not get its label back");
  // Without the clipboard of the browser, as on a page over plain HTTP.
  await page.evaluate(() => {
    Object.defineProperty(navigator, "clipboard", { value: undefined });
    addEventListener("copy", (event) => (window.copied = event.target.value));
  });
  await button.click();
  await page.waitForFunction(() => [...document.querySelectorAll("button.copy")].some((one) => one.textContent === "Copied"));
  check(await page.evaluate(() => window.copied) === text, "the text is not copied without the clipboard of the browser");
  await context.close();
};

// A change arrives on open pages, and what the reader does there stays.
const updates = async (browser) => {
  const { context, page } = await newPage(browser, "desktop", "updates");
  await signIn(page, settings.token);
  await page.waitForFunction(() => /Updated \d+ s ago/.test(document.querySelector("#contact").textContent));
  const list = await context.newPage();
  watch(list, "updates of the list");
  await list.goto(`${settings.url}/ui/connections`);
  await list.evaluate(() => {
    window.row = document.querySelector("#connections tbody tr");
    const field = document.querySelector("#search");
    field.focus();
    field.value = "typed";
    field.setSelectionRange(1, 4);
  });
  const parts = page.locator("main details:visible");
  if (await parts.count()) await parts.first().locator("summary").click();
  await page.evaluate(() => {
    window.opened = [...document.querySelectorAll("main details[open]")].map((part) => part.id);
    window.heading = document.querySelector("#answer");
    const text = document.querySelector("footer").firstChild;
    getSelection().setBaseAndExtent(text, 0, text, 3);
    document.querySelector("a.brand").focus();
  });
  const before = { answer: await page.textContent("#answer"), rows: await list.locator("a[data-row]").count() };
  const pushed = await api("POST", "/connections/onboard", intent(settings.csv));
  // Only a page that is shown updates itself.
  await page.bringToFront();
  await page.waitForFunction((text) => document.querySelector("#answer").textContent !== text, before.answer);
  const kept = await page.evaluate(() => ({
    answer: window.heading === document.querySelector("#answer"),
    opened: window.opened.every((id) => document.getElementById(id)?.open),
    selection: getSelection().toString(),
    focus: document.activeElement === document.querySelector("a.brand"),
  }));
  check(kept.answer && kept.opened && kept.focus && kept.selection.length === 3, `an update of home loses something: ${JSON.stringify(kept)}`);
  await list.bringToFront();
  await list.waitForFunction((id) => document.querySelector(`[data-key="${id}"]`), pushed.connection_id);
  const field = await list.evaluate(() => {
    const { id, value, selectionStart, selectionEnd } = document.activeElement;
    return { id, value, selectionStart, selectionEnd, row: window.row.isConnected };
  });
  check(JSON.stringify(Object.values(field)) === '["search","typed",1,4,true]', `an update of the list loses something: ${JSON.stringify(field)}`);
  check(await list.locator("a[data-row]").count() === before.rows + 1, "the list does not have one more row");
  // A page of the past stays as it is.
  await list.goto(`${settings.url}/?at=${new Date(Date.now() - 60000).toISOString()}`);
  check(await list.locator("#contact").count() === 0, "a page of the past updates itself");
  await context.close();
  return pushed.connection_id;
};

const acting = async (browser) => {
  const id = await updates(browser);
  const address = `/ui/connections/${id}`;
  const { context, page, state } = await newPage(browser, "desktop", "acting");
  await signIn(page, settings.token, address);
  await page.getByRole("button", { name: /^Verify now/ }).click();
  const says = (pattern) => page.waitForFunction((text) => new RegExp(text).test(document.querySelector("main [role=status]")?.textContent), pattern);
  await says("requested|has ended");
  check(page.url() === settings.url + address, `after Verify now the address is ${page.url()}`);
  await page.click("#withdraw > summary");
  for (const text of await violations(page, { type: "tag", values: TAGS })) failures.push(`withdraw: ${text}`);
  await screenshot(page, "desktop", "light", "withdraw");
  await page.getByRole("button", { name: /^Withdraw this/ }).click();
  await says("withdrawn");
  check(page.url() === settings.url + address, `after Withdraw the address is ${page.url()}`);
  const now = await api("GET", `/connections/${id}`);
  check(now.status === "RETIRED", `a withdrawn connection is ${now.status}`);

  // The session ends in one tab while another one is open.
  const other = await context.newPage();
  await other.goto(settings.url);
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.waitForURL(/\/ui\/sign-in/);
  await other.close();
  state.expectsOutage = true;
  await page.bringToFront();
  await page.waitForFunction(() => /Your session ended/.test(document.querySelector("#contact").textContent));
  await page.click("#contact a");
  await page.waitForURL(/\/ui\/sign-in\?next=/);
  await page.goto(`${settings.url}/ui/connections`);
  check(new URL(page.url()).pathname === "/ui/sign-in", `after signing out, the list leads to ${page.url()}`);

  // A token that only reads.
  await context.clearCookies();
  state.expectsOutage = false;
  await signIn(page, settings.reader, "/ui/connections");
  await page.locator("a[data-row]").first().click();
  await page.waitForURL(/\/ui\/connections\/[0-9a-f-]+/);
  check(await page.getByRole("button", { name: /^Verify|^Withdraw/ }).count() === 0, "a reader may act");
  await context.close();
};

const outage = async (browser) => {
  const { context, page, state } = await newPage(browser, "desktop", "outage");
  await signIn(page, settings.token);
  const says = (pattern) => page.waitForFunction((text) => new RegExp(text).test(document.querySelector("#contact").textContent), pattern, { timeout: 40000 });
  await says("Updated \\d+ s ago");
  state.expectsOutage = true;
  process.kill(settings.pid, "SIGSTOP");
  await says("^no contact since \\d\\d:\\d\\d");
  process.kill(settings.pid, "SIGCONT");
  await says("Updated \\d+ s ago");
  check(await page.getAttribute("#contact", "role") === null, "there is contact again and the alert stays");
  process.kill(settings.pid, "SIGKILL");
  await says("^no contact since \\d\\d:\\d\\d");
  const contact = page.locator("#contact");
  check(await contact.isVisible() && await contact.getAttribute("role") === "alert", "the loss of contact is not an alert");
  check(await page.locator("#answer").isVisible(), "the page does not show its last content any more");
  await screenshot(page, "desktop", "light", "no-contact");
  await context.close();
};

const PARTS = { pages, answer, speed, keyboard, copying, acting, outage };

const main = async () => {
  if (SCREENSHOTS) fs.mkdirSync(SCREENSHOTS, { recursive: true });
  const browser = await chromium.launch({ executablePath: process.env.BIN, args: FLAGS });
  try {
    for (const name of settings.parts) {
      const begun = Date.now();
      try {
        await PARTS[name](browser);
      } catch (error) {
        failures.push(`${name}: ${error.stack}`);
      }
      say(`${name}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    }
  } finally {
    await browser.close();
  }
  for (const text of failures) say(`FAILED: ${text}`);
  process.exitCode = failures.length ? 1 : 0;
};

main().catch((error) => {
  console.log(`FAILED: ${error.stack}`);
  process.exitCode = 1;
});
