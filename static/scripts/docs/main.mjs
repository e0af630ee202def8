// @ts-check
// Shows openapi.json with the vendored Swagger UI. Keys that are typed in live as long as the page and no longer.

/** @type {(options: object) => unknown} */
const SwaggerUIBundle = Reflect.get(globalThis, "SwaggerUIBundle");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Swagger UI's own dark colours hang on this class. */
function followColours() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", followColours);
followColours();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  // Nothing is sent elsewhere, and no link's query may change what is shown here.
  validatorUrl: null,
  queryConfigEnabled: false,
});
