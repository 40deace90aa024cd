-- wrk makes a request of these once, and says at its end what it counted; scripts/bench fills in the @WORDS@.
wrk.method = "@METHOD@"
@FIELDS@
wrk.body = @BODY@
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect, e.read, e.write, e.status, e.timeout))
end
