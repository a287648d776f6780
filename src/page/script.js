// What a page does while it is open: it keeps itself current, copies texts and serves the keyboard. A page is complete without
// it. Its policy allows this text only (by its hash), so it is one file without imports.
(() => {
  "use strict";
  const doc = document;
  const $ = (css, from = doc) => from.querySelector(css);
  const all = (css, from = doc) => [...from.querySelectorAll(css)];
  const element = (name, properties, ...children) => {
    const made = Object.assign(doc.createElement(name), properties);
    made.append(...children);
    return made;
  };
  doc.documentElement.classList.add("scripted");

  // What the reader has just done is in the address only until the page is shown, so that a reload or a sent link does not say it.
  const arrived = location.href.split("#")[0], address = new URL(location.href);
  if (address.searchParams.has("done")) {
    address.searchParams.delete("done");
    history.replaceState(history.state, "", address);
  }

  // Changes the tree `from` into the tree `to` and keeps the elements that both have, so that focus, selection, caret and
  // scroll positions stay. Elements are the same if their id or data-key is.
  const keyOf = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || "" : "");
  const isSame = (a, b) =>
    a.nodeName === b.nodeName && keyOf(a) === keyOf(b) && (a.nodeType !== 1 || keyOf(a) || a.classList[0] === b.classList[0]);
  // What the reader changes: open parts, and the field that is being edited.
  const isOwn = (node, name) =>
    (name === "open" && node.matches("details, dialog")) || (name === "value" && node === doc.activeElement);
  const isKept = (node) =>
    node.matches("#contact, noscript") || (node.nodeName === "TEXTAREA" && node === doc.activeElement);

  const morph = (from, to) => {
    if (from.nodeType !== 1) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (isKept(from)) return;
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value && !isOwn(from, name)) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !isOwn(from, name)) from.removeAttribute(name);
    }
    const known = new Map([...from.children].map((child) => [keyOf(child), child]));
    const wanted = new Set([...to.children].map(keyOf)), rest = [...to.childNodes];
    const isWanted = (node) => (keyOf(node) ? wanted.has(keyOf(node)) : rest.some((next) => isSame(node, next)));
    let at = from.firstChild;
    const drop = () => {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    };
    while (rest.length) {
      // What is not wanted goes first, so that what stays does not have to move: a moved element loses the focus.
      while (at && !isWanted(at)) drop();
      const next = rest.shift();
      const found = keyOf(next) ? known.get(keyOf(next)) : at;
      if (found && isSame(found, next)) {
        if (found === at) at = at.nextSibling;
        else from.insertBefore(found, at);
        morph(found, next);
      } else {
        from.insertBefore(doc.importNode(next, true), at);
      }
    }
    while (at) drop();
  };

  // Shows a page that was fetched in place of the current one.
  const patch = (page) => {
    // Another version of AAM has another style or script.
    const isHere = (part) => all(part.nodeName).some((own) => own.textContent === part.textContent);
    if (!all("style, script", page).every(isHere)) return location.reload();
    const open = new Map(all("details[id]").map((part) => [part.id, part.open]));
    const isTrendShown = $("#trend-chart .shown"), active = doc.activeElement || doc.body, { selectionStart, selectionEnd } = active;
    const { anchorNode, anchorOffset, focusNode, focusOffset } = getSelection();
    for (const css of ["header.top", "#freshness", "#main", "footer"]) {
      const [now, next] = [$(css), $(css, page)];
      if (now && next) morph(now, next);
    }
    doc.title = page.title;
    if (isTrendShown) showTrend();
    for (const part of all("details[id]")) if (open.has(part.id)) part.open = open.get(part.id);
    if (active !== doc.activeElement) {
      const target = active.isConnected ? active : active.id && doc.getElementById(active.id);
      target?.focus?.({ preventScroll: true });
      if (target && typeof selectionStart === "number") target.setSelectionRange?.(selectionStart, selectionEnd);
    }
    const selection = getSelection();
    const isMoved = selection.anchorNode !== anchorNode || selection.focusNode !== focusNode;
    if (isMoved && anchorNode?.isConnected && focusNode?.isConnected) {
      const within = (node, offset) => Math.min(offset, node.nodeType === 1 ? node.childNodes.length : node.length);
      selection.setBaseAndExtent(anchorNode, within(anchorNode, anchorOffset), focusNode, within(focusNode, focusOffset));
    }
  };

  // As `age` in src/model/text.rs.
  const age = (seconds) => {
    const [size, unit] = seconds < 120 ? [1, "s"] : seconds < 7200 ? [60, "m"] : seconds < 172800 ? [3600, "h"] : [86400, "d"];
    return `${Math.floor(Math.max(seconds, 0) / size)}${unit} ago`;
  };

  // Keeps the page current. `contact` says how current it is. Times are those of the server.
  const live = (contact) => {
    const LOST = 10000, FULL = 60000, TIMEOUT = 10000;
    let { version } = contact.dataset;
    let announced = version, skew = Date.parse($("time.as-of").dateTime) - Date.now();
    // When the page was last known to be current, an event was last heard, and the page was last fetched.
    let current = Date.now(), heard = current, fetched = current;
    let stream = null, opened = 0, delay = 1000, tag = "", timer = 0, busy = false, earliest = 0, waits = false, lost = false, over = false;

    const show = () => {
      if (over || waits || doc.hidden) return;
      const now = Date.now();
      if (lost !== now - current > LOST) {
        lost = !lost;
        contact.classList.toggle("lost", lost);
        // Said once, because the text stays the same until there is contact again.
        if (lost) contact.setAttribute("role", "alert");
        else contact.removeAttribute("role");
      }
      const since = `since ${new Date(current + skew).toISOString().slice(11, 16)} UTC`;
      const state = now - heard > LOST ? "no contact" : "not updated";
      const text = lost ? `${state} ${since}` : `· Updated ${Math.round((now - current) / 1000)} s ago`;
      if (contact.textContent !== text) contact.textContent = text;
    };
    const isCurrent = () => {
      current = Date.now();
      const time = $("time.as-of"), at = new Date(current + skew).toISOString();
      time.dateTime = at;
      time.textContent = `${at.slice(0, 19).replace("T", " ")} UTC`;
      show();
    };
    const disconnect = () => {
      stream?.close();
      stream = null;
      clearTimeout(timer);
      timer = 0;
    };
    const end = (text, label, href) => {
      over = true;
      disconnect();
      contact.className = "lost";
      contact.setAttribute("role", "alert");
      contact.replaceChildren(`${text} `, element("a", { href }, label));
    };

    const fetchPage = async () => {
      const target = announced;
      const headers = tag ? { accept: "text/html", "if-none-match": tag } : { accept: "text/html" };
      // Manual, because a reader whose session ended is sent to another page.
      const options = { headers, cache: "no-store", credentials: "same-origin", redirect: "manual" };
      // The server knows how long the page says what was done.
      const source = $("p.done") ? arrived : location.href.split("#")[0];
      const answer = await fetch(source, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
      const { status } = answer;
      if (over || doc.hidden) return;
      if (answer.type === "opaqueredirect" || status === 401) {
        const next = encodeURIComponent(location.pathname + location.search);
        const path = contact.dataset.live.split("?")[0].replace(/live$/, "sign-in");
        return end("Your session ended.", "Sign in", `${path}?next=${next}`);
      }
      if (status === 403 || status === 404) return end(`The page can no longer be shown (${status}).`, "Reload", location.href);
      if (status === 200) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = $("#contact[data-version]", page);
        if (!next) return;
        patch(page);
        tag = answer.headers.get("etag") || "";
        version = next.dataset.version;
      } else if (status === 304) {
        version = target;
      } else {
        return;
      }
      fetched = heard = Date.now();
      isCurrent();
    };
    const update = async () => {
      timer = 0;
      if (busy || over) return;
      busy = true;
      const begun = Date.now();
      try {
        await fetchPage();
      } catch {
        // The next event, or the next try to connect, fetches the page again.
      }
      busy = false;
      // A page that is slow to make is not asked for all the time.
      earliest = Date.now() + Math.max(1000, 5 * (Date.now() - begun));
    };
    const hear = (event) => {
      const { at, version: latest } = JSON.parse(event.data);
      [delay, heard, announced] = [1000, Date.now(), latest];
      skew = Date.parse(at) - heard;
      if (latest === version && heard - fetched < FULL) isCurrent();
      else timer ||= setTimeout(update, Math.max(0, earliest - heard));
    };
    const connect = () => {
      if (stream || over || doc.hidden) return;
      opened = Date.now();
      stream = new EventSource(contact.dataset.live);
      stream.addEventListener("contact", hear);
      stream.addEventListener("changed", hear);
      stream.onerror = reconnect;
    };
    const reconnect = () => {
      disconnect();
      // The page is fetched first: that shows whether the session has ended, and serves where no stream can be had.
      timer = setTimeout(() => update().then(connect), delay * (0.8 + 0.4 * Math.random()));
      delay = Math.min(delay * 2, 7000);
    };

    setInterval(() => {
      show();
      if (stream && Date.now() - Math.max(heard, opened) > LOST) reconnect();
    }, 1000);
    setInterval(() => {
      if (doc.hidden || lost || over) return;
      for (const time of all("time.age")) {
        const text = age((Date.now() + skew - Date.parse(time.dateTime)) / 1000);
        if (time.textContent !== text && !time.closest("[role=status], [aria-live]")) time.textContent = text;
      }
    }, 10000);
    doc.addEventListener("visibilitychange", async () => {
      if (over) return;
      disconnect();
      if (doc.hidden) return;
      waits = true;
      await update();
      waits = false;
      connect();
      show();
    });
    show();
    connect();
  };

  // Copy buttons.
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Browsers have no clipboard for pages over plain HTTP.
      const active = doc.activeElement, area = element("textarea", { value: text, readOnly: true, className: "hidden" });
      doc.body.append(area);
      area.select();
      const copied = doc.execCommand("copy");
      area.remove();
      active?.focus?.({ preventScroll: true });
      return copied;
    }
  };
  const labels = new WeakMap();
  doc.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
    if (!button) return;
    event.preventDefault();
    const copied = await copy(button.dataset.copy);
    const { label = button.textContent, timer } = labels.get(button) || {};
    clearTimeout(timer);
    button.textContent = copied ? "Copied" : "Not copied";
    const restore = () => {
      labels.delete(button);
      button.textContent = label;
    };
    labels.set(button, { label, timer: setTimeout(restore, 2000) });
  });

  // The trend: the values of the column under the pointer, or else of the position of the slider.
  let column = null;
  const showTrend = () => {
    const slider = $("#trend-point"), value = $("#trend-value");
    const shown = column?.isConnected ? column : $(`#trend-chart [data-trend="${slider?.value}"]`);
    const text = shown && $("title", shown)?.textContent;
    if (!text || !value) return;
    for (const other of all("#trend-chart .shown")) if (other !== shown) other.classList.remove("shown");
    shown.classList.add("shown");
    value.textContent = text;
    if (!column) slider.setAttribute("aria-valuetext", text);
  };
  doc.addEventListener("input", (event) => {
    if (event.target.id === "trend-point") showTrend();
  });
  doc.addEventListener("pointerover", (event) => {
    const under = event.target.closest("[data-trend]");
    if (under === column) return;
    column = under;
    showTrend();
  });

  // Keys.
  const KEYS = [["/", "Search connections"], ["j, k", "Next and previous row"], ["Enter", "Open the row"], ["g h", "Home"],
    ["g c", "Connections"], ["← →", "On the trend: earlier and later"], ["?", "Show the keys"], ["Esc", "Close what is open"]];
  const showKeys = () => {
    let dialog = $("#keys");
    if (!dialog) {
      const pairs = KEYS.flatMap(([keys, text]) => [element("dt", {}, element("kbd", {}, keys)), element("dd", {}, text)]);
      const close = element("button", { type: "button", onclick: () => dialog.close() }, "Close");
      const title = element("h2", { id: "keys-title" }, "Keys");
      dialog = element("dialog", { id: "keys" }, title, element("dl", { className: "pairs" }, ...pairs), element("p", {}, close));
      dialog.setAttribute("aria-labelledby", "keys-title");
      doc.body.append(dialog);
    }
    dialog.showModal();
  };
  const connections = () => all("header nav a").find((link) => new URL(link.href).pathname.endsWith("/ui/connections"));
  const search = () => {
    const field = $("#search");
    if (field) {
      field.focus();
      field.select();
    } else if (connections()) {
      location.href = `${connections().href}#search`;
    }
  };
  const move = (step) => {
    const rows = all("a[data-row]").filter((row) => row.getClientRects().length);
    const row = rows[rows.indexOf(doc.activeElement) + step] || (rows.includes(doc.activeElement) ? null : rows.at(step > 0 ? 0 : -1));
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  };
  const go = { h: () => $("a.brand")?.click(), c: () => connections()?.click() };
  let pressed = 0;
  doc.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Escape") {
      const menu = $("details.menu[open]");
      if (menu) {
        menu.open = false;
        $("summary", menu)?.focus();
      }
    }
    if (target.matches("input, select, textarea, [contenteditable]") || $("dialog[open]")) return;
    const action =
      key === "/" ? search
      : key === "?" ? showKeys
      : key === "j" ? () => move(1)
      : key === "k" ? () => move(-1)
      : event.timeStamp - pressed < 1000 ? go[key]
      : null;
    pressed = key === "g" ? event.timeStamp : -1000;
    if (!action) return;
    event.preventDefault();
    action();
  });
  if (location.hash === "#search") search();

  const contact = $("#contact[data-live]");
  if (contact) live(contact);
})();
