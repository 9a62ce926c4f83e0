/** The minimal cost of any Worker: an answer as small as that of `GET /health`, without other work. */
export default {
  fetch: () => new Response('{"status":"healthy"}', { headers: { "Content-Type": "application/json" } }),
};
