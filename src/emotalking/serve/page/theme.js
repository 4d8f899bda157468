// Set the chosen colours before anything is drawn; without a choice, the system's.
{
  const saved = localStorage.getItem("theme");
  if (saved === "light" || saved === "dark") document.documentElement.dataset.theme = saved;
}
