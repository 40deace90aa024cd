use super::super::fresh::SECONDS_MAX;
use super::super::store::Unstorable::{Authorization, NoStore, Private, SetCookie, Status, Vary};
use super::super::store::{Came, admit, is_authorized};
use super::super::{Rules, Terms, Unstorable};
use super::{with_request, with_response};

const SECOND_NS: u64 = 1_000_000_000;
const CAME: Came = Came {
    at: 7 * SECOND_NS,
    unix_s: 2_000_000_000,
    delay_ns: 0,
};

/// When the response came.
const NOW: &str = "Date: Wed, 18 May 2033 03:33:20 GMT";
const SLOW: &str = "Date: Wed, 18 May 2033 03:33:10 GMT";
const FAST: &str = "Date: Wed, 18 May 2033 03:33:30 GMT";
const IN_9_S: &str = "Expires: Wed, 18 May 2033 03:33:29 GMT";
const IN_8_S: &str = "Expires: Wed, 18 May 2033 03:33:28 GMT";
const IN_29_S: &str = "Expires: Wed, 18 May 2033 03:33:49 GMT";
const PAST: &str = "Expires: Wed, 18 May 2033 03:33:11 GMT";
const ANCIENT: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
/// 1009 seconds before.
const OLD: &str = "Last-Modified: Wed, 18 May 2033 03:16:31 GMT";
const LATER: &str = "Last-Modified: Wed, 18 May 2033 03:33:30 GMT";
const TAG: &str = "ETag: \"a\"";

const OVER: Result<Terms, Unstorable> = Err(Unstorable::Lifetime);

fn admitted(
    rules: &Rules,
    authorized: bool,
    status: u16,
    fields: &[&str],
) -> Result<Terms, Unstorable> {
    with_response(status, fields, |response| {
        admit(rules, authorized, response, CAME)
    })
}

const STORED: Terms = Terms {
    at: CAME.at,
    age_s: 0,
    lifetime_s: 0,
    stale_while_revalidate_s: 0,
    stale_if_error_s: 0,
    must_revalidate: false,
    no_cache: false,
};

const fn lasting(lifetime_s: u32) -> Result<Terms, Unstorable> {
    Ok(Terms {
        lifetime_s,
        ..STORED
    })
}

const fn aged(age_s: u32, lifetime_s: u32) -> Result<Terms, Unstorable> {
    Ok(Terms {
        age_s,
        lifetime_s,
        ..STORED
    })
}

const fn to_be_asked(lifetime_s: u32) -> Result<Terms, Unstorable> {
    Ok(Terms {
        lifetime_s,
        no_cache: true,
        ..STORED
    })
}

const fn strict(lifetime_s: u32) -> Result<Terms, Unstorable> {
    Ok(Terms {
        lifetime_s,
        must_revalidate: true,
        ..STORED
    })
}

/// A section, whether the request had Authorization, the status, and the fields.
type Never = (&'static str, bool, u16, &'static [&'static str], Unstorable);

const FOR: &str = "Cache-Control: max-age=9";

const NEVER: &[Never] = &[
    (
        "5.2.2.5",
        false,
        200,
        &["Cache-Control: no-store, max-age=9"],
        NoStore,
    ),
    (
        "5.2.2.5: first",
        true,
        206,
        &["Cache-Control: no-store, private"],
        NoStore,
    ),
    (
        "9213 2.2",
        false,
        200,
        &[FOR, "CDN-Cache-Control: no-store"],
        NoStore,
    ),
    (
        "9213 2.1: unreadable",
        false,
        200,
        &["Cache-Control: no-store", "CDN-Cache-Control: max-age=9, &"],
        NoStore,
    ),
    (
        "5.2.2.3",
        false,
        599,
        &["Cache-Control: max-age=9, no-store, must-understand"],
        NoStore,
    ),
    (
        "5.2.2.3",
        false,
        599,
        &["Cache-Control: max-age=9, must-understand"],
        Status,
    ),
    (
        "5.2.2.3",
        false,
        500,
        &["Cache-Control: max-age=9, must-understand"],
        Status,
    ),
    (
        "5.2.2.7",
        false,
        200,
        &["Cache-Control: private, max-age=9, public"],
        Private,
    ),
    (
        "5.2.2.7: with names",
        false,
        200,
        &["Cache-Control: private=\"a\", max-age=9"],
        Private,
    ),
    (
        "5.2.2.7",
        false,
        200,
        &["Cache-Control: private, must-understand, no-store"],
        Private,
    ),
    ("3.5", true, 200, &[FOR], Authorization),
    (
        "3.5",
        true,
        200,
        &["Cache-Control: max-age=9, proxy-revalidate"],
        Authorization,
    ),
    (
        "3.5",
        true,
        200,
        &["Cache-Control: max-age=9, no-cache"],
        Authorization,
    ),
    (
        "3.5: unreadable",
        true,
        200,
        &["Cache-Control: max-age=9, s-maxage=x"],
        Authorization,
    ),
    (
        "3.5: unreadable",
        true,
        200,
        &["Cache-Control: max-age=9, must-revalidate=1"],
        Authorization,
    ),
    ("7.3", false, 200, &[FOR, "Set-Cookie: a=b"], SetCookie),
    (
        "7.3",
        false,
        200,
        &["Cache-Control: public, s-maxage=9", "set-cookie:"],
        SetCookie,
    ),
    ("4.1", false, 200, &[FOR, "Vary: *"], Vary),
    ("4.1: unreadable", false, 200, &[FOR, "Vary: a b"], Vary),
    (
        "3",
        false,
        206,
        &[FOR, "Content-Range: bytes 0-1/2"],
        Status,
    ),
    ("3", false, 304, &[FOR, "ETag: \"a\""], Status),
    ("3: not final", false, 103, &[FOR], Status),
    ("9110 15.1", false, 201, &[], Status),
    ("9110 15.1", false, 302, &["ETag: \"a\""], Status),
    (
        "9110 15.1",
        false,
        403,
        &["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
        Status,
    ),
    (
        "9110 15.1",
        false,
        500,
        &["Cache-Control: must-revalidate"],
        Status,
    ),
];

#[test]
fn what_is_never_stored() {
    let rules = Rules {
        heuristics: true,
        default_ttl_s: Some(60),
        ..Rules::default()
    };
    for (section, authorized, status, fields, expected) in NEVER {
        let found = admitted(&rules, *authorized, *status, fields);
        assert_eq!(found, Err(*expected), "{section}: {fields:?}");
    }
}

type Explicit = (
    &'static str,
    bool,
    u16,
    &'static [&'static str],
    Result<Terms, Unstorable>,
);

const EXPLICIT: &[Explicit] = &[
    (
        "4.2.1",
        false,
        200,
        &["Cache-Control: max-age=9"],
        lasting(9),
    ),
    (
        "3: any status",
        false,
        599,
        &["Cache-Control: max-age=9"],
        lasting(9),
    ),
    ("3: any status", false, 302, &[IN_9_S], lasting(9)),
    (
        "3: any status",
        false,
        499,
        &["CDN-Cache-Control: max-age=9"],
        lasting(9),
    ),
    (
        "5.2.2.3",
        false,
        200,
        &["Cache-Control: max-age=9, no-store, must-understand"],
        lasting(9),
    ),
    (
        "5.2.2.10",
        false,
        200,
        &["Cache-Control: max-age=1, s-maxage=9"],
        strict(9),
    ),
    (
        "3.5",
        true,
        200,
        &["Cache-Control: max-age=9, public"],
        lasting(9),
    ),
    ("3.5", true, 200, &["Cache-Control: s-maxage=9"], strict(9)),
    (
        "3.5",
        true,
        200,
        &["Cache-Control: max-age=9, must-revalidate"],
        strict(9),
    ),
    (
        "5.2.2.8",
        false,
        200,
        &["Cache-Control: max-age=9, proxy-revalidate"],
        strict(9),
    ),
    (
        "4.2.1: before Expires",
        false,
        200,
        &["Cache-Control: max-age=5", IN_9_S],
        lasting(5),
    ),
    (
        "4.2.1: before Expires",
        false,
        200,
        &["Cache-Control: max-age=5", PAST],
        lasting(5),
    ),
    (
        "4.2.1: before Expires",
        false,
        200,
        &["Cache-Control: max-age=5", "Expires: 0"],
        lasting(5),
    ),
    (
        "4.2.1: before Expires",
        false,
        200,
        &["Cache-Control: max-age=0", IN_9_S],
        OVER,
    ),
    (
        "4.2.1: before Expires",
        false,
        200,
        &["Cache-Control: max-age=x", IN_9_S],
        OVER,
    ),
    ("5.3", false, 200, &[IN_9_S], lasting(9)),
    ("5.3", false, 200, &[NOW, IN_9_S], lasting(9)),
    ("5.3: less Date", false, 200, &[FAST, IN_29_S], lasting(19)),
    (
        "5.3: Date unreadable",
        false,
        200,
        &["Date: foo", IN_9_S],
        lasting(9),
    ),
    ("5.3: past", false, 200, &[PAST], OVER),
    ("5.3: before Date", false, 200, &[FAST, IN_9_S], OVER),
    ("5.3: unreadable", false, 200, &["Expires: 0"], OVER),
    (
        "5.3: unreadable",
        false,
        200,
        &["Expires: Thu, 18 Aug 2050 2:01:18 GMT"],
        OVER,
    ),
    ("5.3: unreadable", false, 200, &["Expires:"], OVER),
    ("4.2.1: several", false, 200, &[IN_9_S, IN_8_S], OVER),
    ("4.2.1: several", false, 200, &["Expires: x", IN_9_S], OVER),
    (
        "4.2.1: the same twice",
        false,
        200,
        &[IN_9_S, IN_9_S],
        lasting(9),
    ),
    (
        "5.3: far",
        false,
        200,
        &["Expires: Sun, 21 Nov 2286 04:46:39 GMT"],
        lasting(SECONDS_MAX),
    ),
    (
        "9213 2.2",
        false,
        200,
        &["CDN-Cache-Control: max-age=9", "Cache-Control: no-store"],
        lasting(9),
    ),
    (
        "9213 2.2",
        false,
        200,
        &["CDN-Cache-Control: max-age=9", "Expires: 0"],
        lasting(9),
    ),
    (
        "9213 2.2",
        false,
        200,
        &["CDN-Cache-Control: foo", IN_9_S],
        OVER,
    ),
];

#[test]
fn what_lasts_as_long_as_it_says() {
    for (section, authorized, status, fields, expected) in EXPLICIT {
        let found = admitted(&Rules::default(), *authorized, *status, fields);
        assert_eq!(found, *expected, "{section}: {fields:?}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Route {
    Plain,
    Timed,
    Guessing,
}

impl Route {
    fn rules(self) -> Rules {
        let timed = Rules {
            default_ttl_s: Some(60),
            status_ttls: [(404, 5), (503, 2), (404, 7), (410, 0)].into(),
            ..Rules::default()
        };
        match self {
            Route::Plain => Rules::default(),
            Route::Timed => timed,
            Route::Guessing => Rules {
                heuristics: true,
                ..timed
            },
        }
    }
}

type ByRoute = (
    &'static str,
    Route,
    u16,
    &'static [&'static str],
    Result<Terms, Unstorable>,
);

const BY_ROUTE: &[ByRoute] = &[
    ("3: no lifetime", Route::Plain, 200, &[], OVER),
    (
        "4.3.1: a validator",
        Route::Plain,
        200,
        &[TAG],
        to_be_asked(0),
    ),
    (
        "4.3.1: a validator",
        Route::Plain,
        200,
        &[OLD, NOW],
        to_be_asked(0),
    ),
    (
        "4.3.1: a validator",
        Route::Plain,
        599,
        &["Cache-Control: public", TAG],
        to_be_asked(0),
    ),
    (
        "4.3.1: unreadable",
        Route::Plain,
        200,
        &["ETag: a", "Last-Modified: x"],
        OVER,
    ),
    (
        "3.1: not stored",
        Route::Plain,
        200,
        &["Connection: etag", TAG],
        OVER,
    ),
    (
        "5.2.2.4: a validator",
        Route::Plain,
        200,
        &["Cache-Control: no-cache, max-age=9", TAG],
        to_be_asked(9),
    ),
    (
        "5.2.2.4: none",
        Route::Plain,
        200,
        &["Cache-Control: no-cache, max-age=9"],
        OVER,
    ),
    (
        "5.2.2.4: none",
        Route::Timed,
        200,
        &["Cache-Control: no-cache"],
        OVER,
    ),
    (
        "4.2.1: over, a validator",
        Route::Plain,
        200,
        &["Cache-Control: max-age=0", TAG],
        lasting(0),
    ),
    (
        "4.2.1: over, a validator",
        Route::Plain,
        200,
        &[PAST, TAG],
        lasting(0),
    ),
    (
        "4.2.1: unreadable",
        Route::Plain,
        200,
        &["Cache-Control: max-age=x", TAG],
        to_be_asked(0),
    ),
    (
        "5.3: unreadable",
        Route::Timed,
        200,
        &["Expires: 0", TAG],
        to_be_asked(0),
    ),
    (
        "5.3: unreadable",
        Route::Guessing,
        404,
        &["Expires: 0", OLD],
        to_be_asked(0),
    ),
    ("default", Route::Timed, 200, &[], lasting(60)),
    ("default", Route::Timed, 301, &[TAG], lasting(60)),
    (
        "default: not this status",
        Route::Timed,
        302,
        &[],
        Err(Status),
    ),
    (
        "default: not this status",
        Route::Timed,
        599,
        &["Cache-Control: public"],
        OVER,
    ),
    (
        "default: it says something",
        Route::Timed,
        200,
        &["Cache-Control: max-age=9"],
        lasting(9),
    ),
    (
        "default: it says something",
        Route::Timed,
        200,
        &["Cache-Control: max-age=x"],
        OVER,
    ),
    (
        "default: it says something",
        Route::Timed,
        200,
        &["Expires: 0"],
        OVER,
    ),
    ("by status: first", Route::Timed, 404, &[], lasting(5)),
    ("by status: any", Route::Timed, 503, &[], lasting(2)),
    ("by status: none", Route::Timed, 410, &[], OVER),
    (
        "by status: it says something",
        Route::Timed,
        503,
        &["Cache-Control: max-age=9"],
        lasting(9),
    ),
    (
        "by status before a guess",
        Route::Guessing,
        404,
        &[OLD, NOW],
        lasting(5),
    ),
    ("4.2.2", Route::Guessing, 200, &[OLD, NOW], lasting(100)),
    (
        "4.2.2: a day",
        Route::Guessing,
        200,
        &[ANCIENT],
        lasting(86_400),
    ),
    ("4.2.2: none", Route::Guessing, 200, &[], lasting(60)),
    (
        "4.2.2: in the future",
        Route::Guessing,
        203,
        &[LATER],
        lasting(0),
    ),
    (
        "4.2.2: not this status",
        Route::Guessing,
        201,
        &[OLD, NOW],
        Err(Status),
    ),
    (
        "4.2.2: public",
        Route::Guessing,
        599,
        &[OLD, "Cache-Control: public"],
        lasting(100),
    ),
    (
        "4.2.2: it says something",
        Route::Guessing,
        200,
        &["Cache-Control: max-age=0", OLD],
        lasting(0),
    ),
];

#[test]
fn what_says_nothing_lasts_as_the_route_says() {
    for (section, route, status, fields, expected) in BY_ROUTE {
        let found = admitted(&route.rules(), false, *status, fields);
        assert_eq!(found, *expected, "{section}: {route:?} {status} {fields:?}");
    }
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let found = admitted(&Rules::default(), false, status, &[TAG]);
        assert_eq!(found, to_be_asked(0), "9110 15.1: {status}");
    }
}

const FOR_AN_HOUR: &str = "Cache-Control: max-age=3600";

/// A section, the delay, the fields besides Cache-Control.
type Aged = (
    &'static str,
    u64,
    &'static [&'static str],
    Result<Terms, Unstorable>,
);

const AGES: &[Aged] = &[
    ("4.2.3: none", 0, &[], aged(0, 3600)),
    ("4.2.3", 0, &["Age: 25"], aged(25, 3600)),
    ("4.2.3: apparent", 0, &[SLOW], aged(10, 3600)),
    ("4.2.3: the greater", 0, &[SLOW, "Age: 25"], aged(25, 3600)),
    ("4.2.3: the greater", 0, &[SLOW, "Age: 5"], aged(10, 3600)),
    ("4.2.3: skew", 0, &[FAST], aged(0, 3600)),
    ("4.2.3: skew", 0, &[FAST, "Age: 5"], aged(5, 3600)),
    ("4.2.3: Date unreadable", 0, &["Date: x"], aged(0, 3600)),
    ("4.2.3: delay", 2_900_000_000, &["Age: 5"], aged(7, 3600)),
    ("4.2.3: delay", 2_900_000_000, &[SLOW], aged(10, 3600)),
    ("4.2.3: over", 0, &["Age: 3600"], OVER),
    ("4.2.3: over", 0, &["Age: 7200"], OVER),
    ("5.1: unreadable", 0, &["Age: abc"], aged(0, 3600)),
    ("5.1: unreadable", 0, &["Age: -7200"], aged(0, 3600)),
    ("5.1: unreadable", 0, &["Age: 7200.0"], aged(0, 3600)),
    ("5.1: unreadable", 0, &["Age:"], aged(0, 3600)),
    ("5.1: unreadable", 0, &["Age: \"5\""], aged(0, 3600)),
    ("5.1: first", 0, &["Age: 7200, 0"], OVER),
    ("5.1: first", 0, &["Age: 0, 7200"], aged(0, 3600)),
    ("5.1: first", 0, &["Age: 7200", "Age: 0"], OVER),
    ("5.1: first", 0, &["Age: 0", "Age: 7200"], aged(0, 3600)),
    ("5.1: parameters", 0, &["Age: 7200;foo=bar"], OVER),
    ("1.2.2", 0, &["Age: 2147483647"], OVER),
    ("1.2.2", 0, &["Age: 2147483648"], OVER),
    ("1.2.2", 0, &["Age: 99999999999999999999"], OVER),
    ("1.2.2", u64::MAX, &["Age: 99999999999999999999"], OVER),
];

#[test]
fn ages() {
    for (section, delay_ns, fields, expected) in AGES {
        let came = Came {
            delay_ns: *delay_ns,
            ..CAME
        };
        let mut fields = fields.to_vec();
        fields.push(FOR_AN_HOUR);
        let found = with_response(200, &fields, |response| {
            admit(&Rules::default(), false, response, came)
        });
        assert_eq!(found, *expected, "{section}: {fields:?}");
    }
}

#[test]
fn windows() {
    let rules = Rules {
        stale_while_revalidate_s: 30,
        stale_if_error_s: 60,
        ..Rules::default()
    };
    let terms = |while_s, error_s, lifetime_s| {
        Ok(Terms {
            lifetime_s,
            stale_while_revalidate_s: while_s,
            stale_if_error_s: error_s,
            ..STORED
        })
    };
    let stale = Ok(Terms {
        age_s: 50,
        ..terms(30, 60, 5).unwrap()
    });
    let cases: &[(&str, &[&str], Result<Terms, Unstorable>)] = &[
        (
            "the route's",
            &["Cache-Control: max-age=5"],
            terms(30, 60, 5),
        ),
        (
            "5861",
            &["Cache-Control: max-age=5, stale-while-revalidate=1"],
            terms(1, 60, 5),
        ),
        (
            "5861",
            &["Cache-Control: max-age=5, stale-if-error=0"],
            terms(30, 0, 5),
        ),
        (
            "5861: unreadable",
            &["Cache-Control: max-age=5, stale-if-error"],
            terms(30, 0, 5),
        ),
        (
            "stale, and of use",
            &["Cache-Control: max-age=5", "Age: 50"],
            stale,
        ),
        (
            "stale, and of no use",
            &["Cache-Control: max-age=5", "Age: 65"],
            OVER,
        ),
        (
            "5.2.2.2",
            &["Cache-Control: max-age=5, must-revalidate", "Age: 50"],
            OVER,
        ),
    ];
    for (section, fields, expected) in cases {
        let found = admitted(&rules, false, 200, fields);
        assert_eq!(found, *expected, "{section}: {fields:?}");
    }
}

#[test]
fn cookies_are_stored_where_the_route_wants_it() {
    let rules = Rules {
        set_cookie: true,
        ..Rules::default()
    };
    let fields = ["Cache-Control: max-age=9", "Set-Cookie: a=b"];
    assert_eq!(admitted(&rules, false, 200, &fields), lasting(9));
}

#[test]
fn the_targeted_field_counts_where_the_route_wants_it() {
    let rules = Rules {
        cdn_cache_control: false,
        ..Rules::default()
    };
    let fields = ["Cache-Control: max-age=9", "CDN-Cache-Control: no-store"];
    assert_eq!(admitted(&rules, false, 200, &fields), lasting(9));
}

#[test]
fn authorization_is_seen() {
    for (field, expected) in [
        ("authorization: x", true),
        ("Authorization:", true),
        ("Proxy-Authorization: x", false),
    ] {
        assert_eq!(with_request("/", &[field], is_authorized), expected);
    }
    let nominated = ["Connection: authorization", "Authorization: x"];
    assert!(with_request("/", &nominated, is_authorized));
}
