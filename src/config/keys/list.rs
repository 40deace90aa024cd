//! The one list of configuration keys.
//!
//! Decides: which keys exist, where each may stand, its default, its bounds and its one line of meaning. May not know:
//! files, plans. Invariant: the keys of a section are neighbours.

use super::{
    CLUSTERS, DAY, HOUR, KIB, LIMITS, MS, ROUTES, Spec, TOP, bandwidth, duration, or_off, whole,
};
use crate::config::kinds::{
    ACCEPT_NAMES, ACTION_NAMES, ALL_DOWN_NAMES, CHECK_TYPE_NAMES, CHOOSING_NAMES,
    CLIENT_FIELD_NAMES, ENGINE_NAMES, ENTRIES_MAX, FIELDS_NAMES, FORMAT_NAMES, JWT_ALGORITHM_NAMES,
    Kind, LEVEL_NAMES, MODE_NAMES, OBJECT_BYTES_MAX, TTL_MAX_NS, Verifier, WHEN_FULL_NAMES,
};
use crate::policy::health::{STREAK_MAX, TRIALS_MAX};
use crate::policy::retry::BACKOFF_MAX_NS;

keys! {
    Backends "backends" TOP Kind::Structure,
        "", "short form: one cluster named default with one route for everything; URLs or { url, weight, backup }";

    ServerListen "server.listen" TOP Kind::Listens,
        "\"0.0.0.0:8080\"", "where clients connect";
    ServerShards "server.shards" TOP Kind::Whole { min: 1, max: 1024, word: Some("auto") },
        "\"auto\"", "threads that serve; auto is one per core, within affinity and quota";
    ServerPin "server.pin" TOP Kind::Flag,
        "true", "tie each shard to its core";
    ServerEngine "server.engine" TOP Kind::Choice(&ENGINE_NAMES),
        "\"auto\"", "how shards wait for the kernel; auto takes io_uring where it is allowed";
    ServerDrainTimeout "server.drain_timeout" TOP duration(DAY, false),
        "\"25s\"", "how long requests in flight may go on after SIGTERM";
    ServerTcpCongestion "server.tcp_congestion" TOP Kind::Congestion,
        "\"\"", "congestion control towards clients; empty leaves the system's";

    Stuck "watchdog.stuck" TOP Kind::Duration { min: 100 * MS, max: HOUR, off: false },
        "\"1s\"", "a shard without a sign of life for this long is reported";

    AdminListen "admin.listen" TOP Kind::Admin,
        "\"127.0.0.1:2112\"", "where /healthz, /readyz and /metrics answer";

    Webhook "events.webhook" TOP Kind::Webhook,
        "\"\"", "where each change of a backend's health is posted, as JSON; empty is off";

    LogLevel "log.level" TOP Kind::Choice(&LEVEL_NAMES),
        "\"info\"", "least severe message that is written to stderr";
    LogAccess "log.access" TOP Kind::Flag,
        "true", "write one line per request to stdout";
    LogFormat "log.format" TOP Kind::Choice(&FORMAT_NAMES),
        "\"json\"", "form of the access line";

    ClientHeader "timeouts.client_header" TOP duration(DAY, false),
        "\"10s\"", "from a request's first byte to its whole head, else 408; top level only";
    ClientBody "timeouts.client_body" ROUTES duration(DAY, false),
        "\"30s\"", "longest silence while the client sends a body, else 408";
    Keepalive "timeouts.keepalive" TOP duration(DAY, false),
        "\"1m\"", "an idle client connection is closed after this; top level only";
    ClientWrite "timeouts.client_write" ROUTES duration(DAY, false),
        "\"30s\"", "longest stall while the client does not take its response";
    Connect "timeouts.connect" ROUTES duration(DAY, false),
        "\"2s\"", "to open a connection to a backend, else 504";
    FirstByte "timeouts.first_byte" ROUTES duration(DAY, false),
        "\"30s\"", "from the request sent to the response's first byte, else 504";
    BackendIdle "timeouts.backend_idle" ROUTES duration(DAY, false),
        "\"1m\"", "longest silence of a backend within a response";
    Request "timeouts.request" ROUTES duration(DAY, true),
        "\"off\"", "the whole request; it cuts streams, so it is off";
    Tunnel "timeouts.tunnel" ROUTES duration(30 * DAY, false),
        "\"1h\"", "longest silence of both sides of a WebSocket or other upgrade";

    HeaderBytes "limits.header_bytes" TOP Kind::Size { min: KIB, max: 256 * KIB, word: None },
        "\"32KiB\"", "longest head of a request, else 431";
    HeaderCount "limits.header_count" TOP Kind::Whole { min: 1, max: crate::h1::HEADER_COUNT_MAX as u64, word: None },
        "100", "most header fields in a request, else 431";
    RequestLine "limits.request_line" TOP Kind::Size { min: 256, max: 64 * KIB, word: None },
        "\"8KiB\"", "longest request line, else 414";
    Body "limits.body" ROUTES Kind::Size { min: 0, max: 1 << 60, word: Some("unlimited") },
        "\"unlimited\"", "largest request body, else 413";
    BodyRate "limits.body_rate" ROUTES Kind::Size { min: 0, max: 1 << 40, word: None },
        "\"0B\"", "slowest request body per second, averaged over timeouts.client_body, else 408; 0B is off";
    Connections "limits.connections" TOP Kind::Whole { min: 0, max: 10_000_000, word: None },
        "0", "most client connections; 0 is as many as file descriptors allow";
    ConnectionRequests "limits.connection_requests" TOP Kind::Whole { min: 1, max: 1_000_000_000, word: None },
        "10000", "requests on one client connection before it is closed, ± 10 %";
    Requests "limits.requests" ROUTES whole(0, 10_000_000),
        "0", "requests of one route in flight over all shards, else 503; 0 is no limit";
    BackendConnections "limits.backend_connections" CLUSTERS whole(0, 1_000_000),
        "0", "connections to one backend over all shards, idle ones included; 0 is no limit";

    ConnectionsPerIp "limits.connections_per_ip" TOP whole(0, 1_000_000),
        "0", "connections of one client over all shards, but not of trusted proxies; 0 is no limit; top level only";
    AcceptsPerIp "limits.accepts_per_ip" TOP whole(0, 1_000_000),
        "0", "new connections of one client per second, but not of trusted proxies; 0 is no limit; top level only";
    RequestsPerIp "limits.requests_per_ip" ROUTES whole(0, 1_000_000),
        "0", "requests of one client in flight in one route, else 429; 0 is no limit";
    ResponseRate "limits.response_rate" ROUTES bandwidth(),
        "\"0B\"", "most bytes per second of one response, not of a connection or client; our own answers are not slowed; 0B is no limit";
    RequestRate "limits.request_rate" ROUTES bandwidth(),
        "\"0B\"", "most bytes per second of one request body; 0B is no limit";

    BufferRequest "buffering.request" ROUTES Kind::Size { min: 1, max: 1 << 30, word: Some("off") },
        "\"off\"", "a request's body is read whole before a backend sees anything; a larger one is answered with 413";

    RatePerSecond "rate_limit.requests_per_second" LIMITS Kind::Rate { period_s: 1 },
        "\"off\"", "requests of one key, counted over all shards, else 429; rps for short; at most one of the three rates";
    RatePerMinute "rate_limit.requests_per_minute" LIMITS Kind::Rate { period_s: 60 },
        "\"off\"", "the same, per minute";
    RatePerHour "rate_limit.requests_per_hour" LIMITS Kind::Rate { period_s: 3600 },
        "\"off\"", "the same, per hour";
    RateBurst "rate_limit.burst" LIMITS Kind::Whole { min: 1, max: 1_000_000, word: Some("auto") },
        "\"auto\"", "requests that may come at once; auto is those of a whole second, minute or hour";
    RateKey "rate_limit.key" LIMITS Kind::LimitKey,
        "\"ip\"", "what is counted apart, all parts together; all counts everybody's requests as one";
    RateMode "rate_limit.mode" LIMITS Kind::Choice(&MODE_NAMES),
        "\"exact\"", "leased costs less, and may let shards x lease more requests pass";
    RateLease "rate_limit.lease" LIMITS whole(1, 1000),
        "8", "requests that a shard takes at a time, if leased";
    RateAction "rate_limit.action" LIMITS Kind::Choice(&ACTION_NAMES),
        "\"reject\"", "delay lets the requests of a burst wait until they keep the rate";
    RateShadow "rate_limit.shadow" LIMITS Kind::Flag,
        "false", "count what would be refused, and refuse nothing";
    RateStatus "rate_limit.status" LIMITS whole(400, 599),
        "429", "status of the refusal";
    RateFields "rate_limit.fields" LIMITS Kind::Choice(&FIELDS_NAMES),
        "\"draft\"", "fields that tell clients how they stand: RateLimit, X-RateLimit-*, both or none";
    RateKeys "rate_limit.keys" LIMITS whole(1024, 16_777_216),
        "65536", "keys that each shard has room for";
    RateWhenFull "rate_limit.when_full" LIMITS Kind::Choice(&WHEN_FULL_NAMES),
        "\"reject\"", "what becomes of a new key while there is no room";

    CorsOrigins "cors.origins" ROUTES Kind::Origins,
        "[]", "whose pages may ask, from browsers; empty is off";
    CorsMethods "cors.methods" ROUTES Kind::Methods,
        "[\"GET\", \"HEAD\", \"POST\"]", "what they may ask with";
    CorsHeaders "cors.headers" ROUTES Kind::CorsFields,
        "[\"*\"]", "fields that their requests may have; * allows those that a browser asks for";
    CorsExposedHeaders "cors.exposed_headers" ROUTES Kind::CorsFields,
        "[]", "fields of responses that they may read";
    CorsCredentials "cors.credentials" ROUTES Kind::Flag,
        "false", "their requests may have cookies and passwords; never with origins = [\"*\"]";
    CorsMaxAge "cors.max_age" ROUTES Kind::Seconds { max: DAY },
        "\"off\"", "how long a browser remembers what it may ask; off leaves it to the browser";

    RequestSet "headers.request_set" ROUTES Kind::Edits { request: true },
        "[]", "fields that backends get in place of the client's; {client_ip}, {scheme}, {method}, {host}, {hostname} (without its port), {path}, {query}, {request_id}, {user}, {route} and {backend} stand for what they say";
    RequestAdd "headers.request_add" ROUTES Kind::Edits { request: true },
        "[]", "fields that backends get beside the client's";
    RequestRemove "headers.request_remove" ROUTES Kind::FieldNames { request: true },
        "[]", "the client's fields that backends do not get";
    ResponseSet "headers.response_set" ROUTES Kind::Edits { request: false },
        "[]", "fields that clients get in place of the backend's";
    ResponseAdd "headers.response_add" ROUTES Kind::Edits { request: false },
        "[]", "fields that clients get beside the backend's";
    ResponseRemove "headers.response_remove" ROUTES Kind::FieldNames { request: false },
        "[]", "the backend's fields that clients do not get";
    Security "headers.security" ROUTES Kind::Flag,
        "false", "fields that make browsers careful, each where the backend sends none of its own";
    Hsts "headers.hsts" ROUTES Kind::Seconds { max: 3650 * DAY },
        "\"off\"", "how long browsers come back by https only (Strict-Transport-Security)";
    HstsSubdomains "headers.hsts_subdomains" ROUTES Kind::Flag,
        "false", "to all subdomains too";
    HstsPreload "headers.hsts_preload" ROUTES Kind::Flag,
        "false", "browsers may know it before they have come; they want subdomains and a year at least";

    IdHeader "request_id.header" ROUTES Kind::OwnField,
        "\"\"", "field that carries the id of a request, such as X-Request-Id; empty is off";
    IdAccept "request_id.accept" ROUTES Kind::Choice(&ACCEPT_NAMES),
        "\"trusted\"", "whose ids are taken over; trusted is those of forwarding.trusted_proxies";
    IdRespond "request_id.respond" ROUTES Kind::Flag,
        "true", "the client gets the id too";
    Traceparent "request_id.traceparent" ROUTES Kind::Flag,
        "false", "a valid traceparent (W3C Trace Context) goes on to backends, another is replaced";

    Allow "access.allow" ROUTES Kind::Cidrs,
        "[]", "clients that may ask, else 403; empty is everybody";
    Deny "access.deny" ROUTES Kind::Cidrs,
        "[]", "clients that may not, whatever allow says";
    Realm "access.realm" ROUTES Kind::Word { max: 128 },
        "\"corelane\"", "what the browser shows when it asks for a password";
    BasicUsers "access.basic_users" ROUTES Kind::Users,
        "[]", "who may ask with a password, hashed by bcrypt or Argon2 (htpasswd -nB NAME); of passwords, API keys and tokens one is enough, else 401";
    ApiKeys "access.api_keys" ROUTES Kind::ApiKeys,
        "[]", "who may ask with a key of 16 characters or more";
    ApiKeyHeader "access.api_key_header" ROUTES Kind::Token,
        "\"X-Api-Key\"", "field that holds the key; in Authorization it stands behind Bearer";
    JwtSecret "access.jwt_secret" ROUTES Kind::Verifier(Verifier::Secret),
        "\"\"", "who has a token (JWT) that is signed with this secret of 32 bytes or more (HS256) may ask; empty is off";
    JwtKey "access.jwt_key" ROUTES Kind::Verifier(Verifier::Pem),
        "\"\"", "the same for the private key that belongs to this public one (RS256, ES256, EdDSA)";
    JwtJwks "access.jwt_jwks" ROUTES Kind::Verifier(Verifier::Jwks),
        "\"\"", "the same for any key of this set; of secret, key and set one is possible";
    JwtAlgorithm "access.jwt_algorithm" ROUTES Kind::Choice(&JWT_ALGORITHM_NAMES),
        "\"\"", "the only algorithm that is taken; empty is what the keys are made for";
    JwtIssuers "access.jwt_issuers" ROUTES Kind::Words { max: 512 },
        "[]", "iss of a token is one of these, else 403; empty is any";
    JwtAudiences "access.jwt_audiences" ROUTES Kind::Words { max: 512 },
        "[]", "aud of a token has one of these, else 403; empty is any";
    JwtLeeway "access.jwt_leeway" ROUTES Kind::Seconds { max: HOUR },
        "\"1m\"", "how far clocks may differ, for exp and nbf";
    JwtUserClaim "access.jwt_user_claim" ROUTES Kind::Word { max: 128 },
        "\"sub\"", "what of a token names the user";
    AuthCluster "access.forward_cluster" ROUTES Kind::ClusterName,
        "\"\"", "a cluster that is asked whether a request may pass: 2xx lets it, 5xx becomes 503 (auth_unavailable), any other answer goes to the client; empty is off";
    AuthPath "access.forward_path" ROUTES Kind::Target,
        "\"/\"", "what it is asked for";
    AuthCopy "access.forward_copy" ROUTES Kind::FieldNames { request: true },
        "[]", "fields of its answer that backends get, in place of the client's";
    AuthTimeout "access.forward_timeout" ROUTES duration(HOUR, false),
        "\"5s\"", "an answer that takes longer is a 503";

    Compression "compression.enabled" ROUTES Kind::Flag,
        "false", "compress responses that are worth it, for clients that take it";
    Codings "compression.codings" ROUTES Kind::Codings,
        "[\"zstd\", \"br\", \"gzip\"]", "what we compress with, best first, where the client likes several as well";
    GzipLevel "compression.gzip_level" ROUTES whole(1, 9),
        "5", "more is smaller and slower";
    BrotliLevel "compression.brotli_level" ROUTES whole(0, 6),
        "4", "the same; higher levels would stall the other requests of a shard";
    ZstdLevel "compression.zstd_level" ROUTES whole(1, 12),
        "3", "the same; higher levels would stall a shard too, and above 9 it takes much memory for each response";
    CompressMinSize "compression.min_size" ROUTES Kind::Size { min: 0, max: 1 << 30, word: None },
        "\"1KiB\"", "smaller responses stay as they are";
    MediaTypes "compression.types" ROUTES Kind::MediaTypes,
        "[\"text/*\", \"application/javascript\", \"application/json\", \"application/ld+json\", \"application/manifest+json\", \"application/rss+xml\", \"application/wasm\", \"application/xhtml+xml\", \"application/xml\", \"font/ttf\", \"image/svg+xml\"]", "media types that are compressed";

    Cache "cache.enabled" ROUTES Kind::Flag,
        "false", "store responses that may be stored (RFC 9111), and answer with them";
    CacheMaxBytes "cache.max_bytes" TOP Kind::Size { min: 64 * KIB, max: 1 << 40, word: None },
        "\"64MiB\"", "memory for all that is stored or being fetched; top level only";
    CacheMaxEntries "cache.max_entries" TOP Kind::Whole { min: 16, max: ENTRIES_MAX, word: Some("auto") },
        "\"auto\"", "most stored responses; auto is one for each KiB of max_bytes, at least 1024; max_size for short; top level only";
    CacheMaxObject "cache.max_object" ROUTES Kind::Size { min: 0, max: OBJECT_BYTES_MAX, word: None },
        "\"1MiB\"", "longest body that is stored, at most half of max_bytes; longer ones pass through";
    CacheTtl "cache.default_ttl" ROUTES Kind::Seconds { max: TTL_MAX_NS },
        "\"off\"", "how long a response is fresh that says nothing about it; off stores it only if it can be validated; ttl for short";
    CacheStatusTtls "cache.ttl_by_status" ROUTES Kind::StatusTtls,
        "[]", "the same by status, which goes before; the first that has the status counts";
    CacheHeuristics "cache.heuristics" ROUTES Kind::Flag,
        "false", "a response that has Last-Modified alone is fresh for a tenth of its age, a day at most";
    CacheWhileRevalidate "cache.stale_while_revalidate" ROUTES Kind::Seconds { max: TTL_MAX_NS },
        "\"off\"", "how long after its end a response that says nothing about it may be used while it is validated";
    CacheIfError "cache.stale_if_error" ROUTES Kind::Seconds { max: TTL_MAX_NS },
        "\"off\"", "how long after its end a response that says nothing about it may stand in for an error";
    CacheRequestDirectives "cache.request_directives" ROUTES Kind::Flag,
        "true", "Cache-Control of requests counts";
    CacheSetCookie "cache.store_set_cookie" ROUTES Kind::Flag,
        "false", "store responses with Set-Cookie too: all clients get the cookies of one";
    CacheCdnControl "cache.cdn_cache_control" ROUTES Kind::Flag,
        "true", "CDN-Cache-Control of responses goes before Cache-Control (RFC 9213)";
    CacheStatusField "cache.status_field" ROUTES Kind::Flag,
        "true", "clients are told what the cache did, in Cache-Status (RFC 9211)";
    CacheCollapse "cache.collapse_timeout" ROUTES Kind::Duration { min: MS, max: HOUR, off: true },
        "\"5s\"", "how long a request waits for what another one fetches before it asks a backend itself; off is not at all";
    CacheKey "cache.key" ROUTES Kind::CacheKey,
        "[\"scheme\", \"host\", \"path\", \"query\"]", "what must be the same for two requests to get one response; path is required, and host unless forwarding.host sets it; no field that Corelane or the route writes in requests";
    CacheQueryOnly "cache.query_only" ROUTES Kind::Parameters,
        "[]", "the only parameters of the query that count; backends do not get the others; * at the end stands for anything; empty is all";
    CacheQueryExcept "cache.query_except" ROUTES Kind::Parameters,
        "[]", "parameters that do not count, and that backends do not get; not beside query_only";
    CacheSortQuery "cache.sort_query" ROUTES Kind::Flag,
        "false", "b=2&a=1 is the same as a=1&b=2";

    PoolIdlePerShard "pool.idle_per_shard" CLUSTERS Kind::Whole { min: 0, max: 65_536, word: None },
        "64", "idle connections that each shard keeps per backend";
    PoolIdleTotal "pool.idle_total" CLUSTERS Kind::Whole { min: 0, max: 1_000_000, word: None },
        "1024", "idle connections kept per backend over all shards";
    PoolIdleTimeout "pool.idle_timeout" CLUSTERS duration(DAY, false),
        "\"30s\"", "an idle backend connection is closed after this";
    PoolTcpCongestion "pool.tcp_congestion" CLUSTERS Kind::Congestion,
        "\"\"", "congestion control towards backends; empty leaves the system's";

    QueueLength "queue.length" CLUSTERS whole(0, 1_000_000),
        "1024", "requests of all shards that may wait while every backend has limits.backend_connections, else 503";
    QueueTimeout "queue.timeout" CLUSTERS duration(DAY, false),
        "\"5s\"", "longest wait in the queue, else 503";

    Algorithm "load_balancer.algorithm" CLUSTERS Kind::Choice(&CHOOSING_NAMES),
        "\"round_robin\"", "who gets the next request; each algorithm goes by weight";
    HashKey "load_balancer.hash_key" CLUSTERS Kind::HashKey,
        "\"\"", "what consistent_hash goes by; required there, empty elsewhere";
    HashBound "load_balancer.hash_bound" CLUSTERS or_off(101, 1000),
        "125", "most requests in flight of a backend, in percent of the average, before consistent_hash takes the next";
    AllDown "load_balancer.all_down" CLUSTERS Kind::Choice(&ALL_DOWN_NAMES),
        "\"fail\"", "when no backend is healthy: fail answers 503, open uses them all the same";

    CheckType "health_check.type" CLUSTERS Kind::Choice(&CHECK_TYPE_NAMES),
        "\"off\"", "tcp opens a connection to each backend, http sends a request too";
    CheckMethod "health_check.method" CLUSTERS Kind::Method,
        "\"GET\"", "how a backend is asked";
    CheckPath "health_check.path" CLUSTERS Kind::Target,
        "\"/\"", "what it is asked for; a query may follow";
    CheckHost "health_check.host" CLUSTERS Kind::Authority,
        "\"\"", "the Host that it is asked with; empty is its own";
    CheckHeaders "health_check.headers" CLUSTERS Kind::Headers,
        "[]", "further header fields that are sent";
    CheckStatus "health_check.status" CLUSTERS Kind::Statuses,
        "[\"2xx\", \"3xx\"]", "statuses that pass";
    CheckBody "health_check.body" CLUSTERS Kind::Text { max: 256 },
        "\"\"", "what the response's body must contain; empty is anything";
    CheckInterval "health_check.interval" CLUSTERS duration(DAY, false),
        "\"5s\"", "from one check to the next; 80 to 100 % of it, by chance";
    CheckTimeout "health_check.timeout" CLUSTERS duration(DAY, false),
        "\"2s\"", "a check that takes longer fails";
    CheckRise "health_check.rise" CLUSTERS whole(1, STREAK_MAX),
        "2", "checks in succession that must pass before a backend is up again";
    CheckFall "health_check.fall" CLUSTERS whole(1, STREAK_MAX),
        "3", "checks in succession that must fail before a backend is down";
    CheckRequired "health_check.require_healthy_on_start" CLUSTERS Kind::Flag,
        "false", "refuse to start while no backend of the cluster is healthy";

    PassiveErrors "passive_health.errors" CLUSTERS whole(0, STREAK_MAX),
        "5", "failed requests in succession that eject a backend; 0 is off";
    PassiveOn "passive_health.on" CLUSTERS Kind::Causes { invalid: true },
        "[\"connect\", \"closed\", \"timeout\", \"invalid\", \"502\", \"503\", \"504\"]", "what counts as a failed request";
    PassiveEjection "passive_health.ejection" CLUSTERS duration(DAY, false),
        "\"10s\"", "how long the first time; each further one lasts twice as long";
    PassiveEjectionMax "passive_health.ejection_max" CLUSTERS duration(DAY, false),
        "\"5m\"", "how long at most";
    PassiveShare "passive_health.share" CLUSTERS whole(0, 100),
        "50", "most backends of a cluster that may be ejected at one time, in percent";

    BreakerEnabled "circuit_breaker.enabled" CLUSTERS Kind::Flag,
        "false", "open the circuit to a backend when too large a share of its requests fails";
    BreakerOn "circuit_breaker.on" CLUSTERS Kind::Causes { invalid: true },
        "[\"connect\", \"closed\", \"timeout\", \"invalid\", \"5xx\"]", "what counts as a failed request";
    BreakerRatio "circuit_breaker.ratio" CLUSTERS whole(1, 100),
        "50", "failed requests of a hundred that open it";
    BreakerVolume "circuit_breaker.volume" CLUSTERS whole(1, 1_000_000),
        "20", "requests in the window below which it stays closed";
    BreakerWindow "circuit_breaker.window" CLUSTERS Kind::Duration { min: 100 * MS, max: HOUR, off: false },
        "\"10s\"", "the time over which requests are counted";
    BreakerOpen "circuit_breaker.open" CLUSTERS duration(DAY, false),
        "\"5s\"", "how long it is open the first time; each further one lasts twice as long";
    BreakerOpenMax "circuit_breaker.open_max" CLUSTERS duration(DAY, false),
        "\"1m\"", "how long it is open at most";
    BreakerTrials "circuit_breaker.trials" CLUSTERS whole(1, TRIALS_MAX),
        "5", "requests that are let through then, over all shards; it closes when all succeed";

    RetryOn "retry.on" ROUTES Kind::Causes { invalid: false },
        "[\"connect\", \"closed\"]", "what is tried again, at another backend; what may have been executed only if it is idempotent";
    RetryAttempts "retry.attempts" ROUTES whole(0, 7),
        "1", "most further attempts of one request; refused connections do not count";
    RetryBackoff "retry.backoff" ROUTES duration(BACKOFF_MAX_NS, true),
        "\"25ms\"", "longest pause before the first of them, random; up to twice as long before each further one, at most 1s";
    RetryBudget "retry.budget" TOP whole(0, 100),
        "20", "most hedges, and retries for slowness or a status, at one time, in percent of the requests in flight; top level only";
    RetryBudgetLeast "retry.budget_least" TOP whole(0, 1_000_000),
        "3", "and so many more; top level only";

    HedgePercentile "hedge.percentile" CLUSTERS or_off(50, 99),
        "\"off\"", "an idempotent request that takes longer than this percentile gets a second attempt beside the first";

    Adaptive "concurrency.adaptive" CLUSTERS Kind::Flag,
        "false", "limit the requests in flight of a cluster to what its latency shows that it carries, else 503";
    AdaptiveLeast "concurrency.least" CLUSTERS Kind::Whole { min: 1, max: 1_000_000, word: None },
        "20", "where the adaptive limit begins, and the least that it is";
    AdaptiveMost "concurrency.most" CLUSTERS Kind::Whole { min: 1, max: 1_000_000, word: None },
        "2000", "the most that the adaptive limit is";

    SlowStart "slow_start.duration" CLUSTERS duration(DAY, true),
        "\"10s\"", "time in which a backend that comes back grows into its share of the traffic";

    StickyCookie "sticky.cookie" CLUSTERS Kind::Cookie,
        "\"\"", "cookie by which clients come back to the backend that served them; empty is off";
    StickyMaxAge "sticky.max_age" CLUSTERS Kind::Seconds { max: 400 * DAY },
        "\"off\"", "how long the browser keeps that cookie, in whole seconds; off is until it is closed";

    TrustedProxies "forwarding.trusted_proxies" TOP Kind::Cidrs,
        "[]", "peers whose X-Forwarded-* is believed";
    Via "forwarding.via" TOP Kind::Token,
        "\"corelane\"", "our name in the Via field";
    Forwarded "forwarding.forwarded" TOP Kind::Flag,
        "false", "backends get Forwarded (RFC 7239) beside X-Forwarded-*";
    ClientField "forwarding.client_field" TOP Kind::Choice(&CLIENT_FIELD_NAMES),
        "\"x_forwarded_for\"", "field of trusted proxies that names the client";
    Host "forwarding.host" ROUTES Kind::Host,
        "\"pass\"", "the Host a backend sees: the client's, the backend's own, or a fixed one";

    Clusters "clusters" TOP Kind::Structure,
        "", "long form: named groups of equal backends, up to 10000";
    ClusterName "clusters[].name" TOP Kind::Structure,
        "", "unique; letters, digits, dot, dash and underscore, up to 64";
    ClusterBackends "clusters[].backends" TOP Kind::Structure,
        "", "URLs or { url, weight, backup }, up to 10000 over all clusters";
    BackendUrl "clusters[].backends[].url" TOP Kind::Structure,
        "", "http://host, http://host:port, http://[v6]:port or unix:/path";
    BackendWeight "clusters[].backends[].weight" TOP Kind::Structure,
        "", "share of the traffic, 0 to 65535, default 1; 0 takes none";

    BackendBackup "clusters[].backends[].backup" TOP Kind::Structure,
        "", "true: used only while no other backend of the cluster can be; default false";
    ClusterFailover "clusters[].failover" TOP Kind::Structure,
        "", "another cluster that serves what this one cannot; default none";

    Routes "routes" TOP Kind::Structure,
        "", "long form: which requests go to which cluster, up to 50000";
    RouteName "routes[].name" TOP Kind::Structure,
        "", "unique, for logs and metrics; default routes[N]";
    RouteHosts "routes[].hosts" TOP Kind::Structure,
        "", "exact or *.suffix, up to 1000; default any host";
    RoutePathPrefix "routes[].path_prefix" TOP Kind::Structure,
        "", "the longest prefix that matches wins; default /";
    RoutePath "routes[].path" TOP Kind::Structure,
        "", "the whole path, in place of path_prefix; goes before every prefix";
    RouteMethods "routes[].methods" TOP Kind::Structure,
        "", "up to 64; default any method";
    RouteCluster "routes[].cluster" TOP Kind::Structure,
        "", "the cluster that serves it; this or split is required";
    RouteSplit "routes[].split" TOP Kind::Structure,
        "", "clusters that share its requests, as { cluster, weight }, up to 64; default weight 1, 0 takes none";
    RouteSplitHeader "routes[].split_header" TOP Kind::Structure,
        "", "a request's field that names one of them, which goes before the weights; default none";
    RouteHeaders "routes[].headers" TOP Kind::Structure,
        "", "fields that a request must have, up to 16, with any value or this one; default none";
    RouteMatchHeaders "routes[].match_headers" TOP Kind::Structure,
        "", "the same, where a section [routes.headers] has that name";
    RouteQuery "routes[].query" TOP Kind::Structure,
        "", "parameters that its query must have, up to 16, as they are written; default none";
    RouteClients "routes[].clients" TOP Kind::Structure,
        "", "addresses and blocks that it must come from, up to 4096; default any";
    RoutePriority "routes[].priority" TOP Kind::Structure,
        "", "-1000 to 1000: goes before hosts and paths, higher first; default 0";
    RouteStripPrefix "routes[].strip_prefix" TOP Kind::Structure,
        "", "taken off the path that backends see; default nothing";
    RouteAddPrefix "routes[].add_prefix" TOP Kind::Structure,
        "", "put before it, after that; default nothing";
    RouteReplacePath "routes[].replace_path" TOP Kind::Structure,
        "", "the whole path that backends see, in place of both; default none";
    RouteRedirect "routes[].redirect" TOP Kind::Structure,
        "", "in place of a cluster: where clients are sent, as a text or { to, status }; status 301, 302, 303, 307 or 308, default 308; with {scheme}, {host}, {hostname} (without its port), {path}, {query} (with its ?) and the like";
    RouteAnswer "routes[].answer" TOP Kind::Structure,
        "", "in place of a cluster: what clients get, as { status, content_type, body }; default 200, text/plain; charset=utf-8, nothing; body may be file:/path, with {client_ip}, {scheme}, {request_id}, {route} and {status}; in text/plain with {host}, {hostname}, {method}, {path}, {query} and {user} too";
    RouteMirror "routes[].mirror" TOP Kind::Structure,
        "", "a cluster that gets a copy of its requests, and whose answers nobody gets; default none";
    RouteMirrorPercent "routes[].mirror_percent" TOP Kind::Structure,
        "", "how many of a hundred requests, 1 to 100; default 100";
    RouteRateLimits "routes[].rate_limits" TOP Kind::Structure,
        "", "this route's, in place of those of the top level; an empty list has none";

    RateLimits "rate_limits" TOP Kind::Structure,
        "", "further limits, up to 16: a request passes if all let it; each has the keys of rate_limit, inherits none of them, and has a rate";
    LimitName "rate_limits[].name" TOP Kind::Structure,
        "", "unique, for metrics and the fields of responses; default rate_limits[N], of the section rate_limit; those of a route begin with its name";
    RouteErrorPages "routes[].error_pages" TOP Kind::Structure,
        "", "this route's, which go before those of the top level";

    ErrorPages "error_pages" TOP Kind::Structure,
        "", "bodies of errors that are our own, not a backend's, up to 64; the first with the status counts";
    PageStatus "error_pages[].status" TOP Kind::Structure,
        "", "for which: a list of \"5xx\", \"404\" or \"500-504\"";
    PageContentType "error_pages[].content_type" TOP Kind::Structure,
        "", "default text/html; charset=utf-8";
    PageBody "error_pages[].body" TOP Kind::Structure,
        "", "a text or file:/path of up to 1 MiB, with {status}, {reason}, {request_id}, {client_ip}, {scheme} and {route}; other braces stand for themselves";
}
