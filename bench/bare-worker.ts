/** What any Worker costs: an answer as small as that of `GET /health`, and nothing else done. */
export default {
  fetch: () => new Response('{"status":"healthy"}', { headers: { "Content-Type": "application/json" } }),
};
