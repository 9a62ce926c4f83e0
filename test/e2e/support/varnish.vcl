vcl 4.1;

# A conforming HTTP cache with the rules of the one in front of PublicPki on Cloudflare (wrangler.toml, docs/revocation.md):
# what an answer's own headers allow, by its path alone, and purged by the tags in Cache-Tag.

backend server {
  .host = "127.0.0.1";
  .port = "@PORT@";
}

sub vcl_recv {
  if (req.method == "PURGE") {
    ban("obj.http.Cache-Tag ~ (^|,)" + req.http.Cache-Tag + "(,|$)");
    return (synth(200, "Purged"));
  }
  if (req.url !~ "^/\.well-known/pki/") {
    return (pass);
  }
  set req.url = regsub(req.url, "\?.*$", "");
  unset req.http.Cookie;
}

sub vcl_hash {
  hash_data(req.url);
  # A copy of its own for who wants to see an answer expire: its minutes are seconds, its hours minutes.
  hash_data(req.http.X-Minutes-Are-Seconds);
  return (lookup);
}

sub vcl_backend_response {
  # must-revalidate: nothing is served stale. Kept beyond its end only to be revalidated (RFC 9111 section 4.3).
  set beresp.grace = 0s;
  set beresp.keep = 1h;
  if (bereq.http.X-Minutes-Are-Seconds) {
    set beresp.ttl = beresp.ttl / 60;
  }
  set beresp.http.X-Revalidated = beresp.was_304;
}

sub vcl_deliver {
  set resp.http.X-Cache-Hits = obj.hits;
  set resp.http.X-Cache-Uncacheable = obj.uncacheable;
  set resp.http.X-Cache-TTL = obj.ttl;
}
