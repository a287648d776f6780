(() => {
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const open = new Set([...document.querySelectorAll("details[open]")].map((d) => d.id));
      const scroller = document.querySelector(".scroll");
      const left = scroller ? scroller.scrollLeft : 0;
      for (const part of ["header", "main"]) {
        const now = document.querySelector(part), next = page.querySelector(part);
        if (now && next && now.innerHTML !== next.innerHTML) now.replaceWith(next);
      }
      for (const d of document.querySelectorAll("details")) if (open.has(d.id)) d.open = true;
      const moved = document.querySelector(".scroll");
      if (moved) moved.scrollLeft = left;
      document.title = page.title;
    } catch { /* The server restarts; the next refresh finds it again. */ }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
})();
