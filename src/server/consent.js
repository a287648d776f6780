(() => {
  const main = () => document.querySelector("main");
  const next = () => {
    const seconds = Number(main()?.dataset.poll);
    if (seconds > 0) setTimeout(refresh, seconds * 1000);
  };
  const refresh = async () => {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = main(), then = page.querySelector("main");
      if (now && then) {
        now.dataset.poll = then.dataset.poll ?? "";
        // An unchanged page is left alone, so that a screen reader does not repeat it.
        if (now.innerHTML !== then.innerHTML) now.replaceChildren(...then.childNodes);
      }
      if (page.title) document.title = page.title;
    } catch { /* The server restarts; the next refresh finds it again. */ }
    next();
  };
  next();
})();
