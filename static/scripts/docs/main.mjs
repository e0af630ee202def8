// @ts-check
// Shows openapi.json with the vendored Swagger UI. The page never stores the keys that are typed in.

/** @type {(options: object) => unknown} */
const SwaggerUIBundle = Reflect.get(globalThis, "SwaggerUIBundle");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Swagger UI shows its dark theme if the root element has this class. */
function applyTheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", applyTheme);
applyTheme();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  // No other host gets a request, and the query of a link cannot change the document.
  validatorUrl: null,
  queryConfigEnabled: false,
});
