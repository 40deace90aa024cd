# Varnish as an expert would set it up for this comparison; its parameters stand in the command line.
vcl 4.1;

backend default {
  .host = "@BACKEND_IP@";
  .port = "@BACKEND_PORT@";
  .connect_timeout = 2s;
}

sub vcl_recv {
  # The answers of this comparison depend on nothing but host and URL, so a cookie is no reason to ask the backend.
  if (req.method == "GET" || req.method == "HEAD") {
    unset req.http.Cookie;
    return (hash);
  }
  return (pass);
}

sub vcl_backend_fetch {
  # X-Forwarded-For is Varnish's own doing.
  set bereq.http.X-Forwarded-Proto = "http";
  set bereq.http.X-Forwarded-Host = bereq.http.Host;
}
