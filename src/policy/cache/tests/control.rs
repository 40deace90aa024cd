use super::super::control::{Asked, Directives, asked, directives};
use super::super::fresh::SECONDS_MAX;
use super::{with_request, with_response};

const ASKS_NOTHING: Asked = Asked {
    no_store: false,
    no_cache: false,
    only_if_cached: false,
    max_age_s: None,
    min_fresh_s: 0,
    max_stale_s: 0,
    stale_if_error_s: None,
};
const ASKS_AGAIN: Asked = Asked {
    no_cache: true,
    ..ASKS_NOTHING
};
const ASKS_APART: Asked = Asked {
    no_store: true,
    ..ASKS_NOTHING
};
const ASKS_BOTH: Asked = Asked {
    no_store: true,
    ..ASKS_AGAIN
};
const ASKS_HERE: Asked = Asked {
    only_if_cached: true,
    ..ASKS_NOTHING
};

const fn max_age(seconds: u32) -> Asked {
    Asked {
        max_age_s: Some(seconds),
        ..ASKS_NOTHING
    }
}

const fn min_fresh(seconds: u32) -> Asked {
    Asked {
        min_fresh_s: seconds,
        ..ASKS_NOTHING
    }
}

const fn max_stale(seconds: u32) -> Asked {
    Asked {
        max_stale_s: seconds,
        ..ASKS_NOTHING
    }
}

const fn stale_if_error(seconds: u32) -> Asked {
    Asked {
        stale_if_error_s: Some(seconds),
        ..ASKS_NOTHING
    }
}

const REQUESTS: &[(&str, &[&str], Asked)] = &[
    ("none", &[], ASKS_NOTHING),
    ("5.2.1.1", &["Cache-Control: max-age=5"], max_age(5)),
    ("5.2.1.1", &["Cache-Control: max-age=\"5\""], max_age(5)),
    (
        "5.2.1.1: unreadable",
        &["Cache-Control: max-age"],
        max_age(0),
    ),
    (
        "5.2.1.1: unreadable",
        &["Cache-Control: max-age=x"],
        max_age(0),
    ),
    (
        "5.2.1.1: unreadable",
        &["Cache-Control: max-age=-1"],
        max_age(0),
    ),
    (
        "4.2.1: least",
        &["Cache-Control: max-age=5, max-age=3"],
        max_age(3),
    ),
    (
        "4.2.1: least",
        &["Cache-Control: max-age=5, max-age=x"],
        max_age(0),
    ),
    ("5.2.1.2", &["Cache-Control: max-stale=7"], max_stale(7)),
    (
        "5.2.1.2: any",
        &["Cache-Control: max-stale"],
        max_stale(u32::MAX),
    ),
    (
        "5.2.1.2: unreadable",
        &["Cache-Control: max-stale="],
        max_stale(0),
    ),
    (
        "5.2.1.2: unreadable",
        &["Cache-Control: max-stale=1.5"],
        max_stale(0),
    ),
    (
        "least",
        &["Cache-Control: max-stale=7, max-stale"],
        max_stale(7),
    ),
    (
        "least",
        &["Cache-Control: max-stale, max-stale=7"],
        max_stale(7),
    ),
    ("5.2.1.3", &["Cache-Control: min-fresh=9"], min_fresh(9)),
    (
        "5.2.1.3: unreadable",
        &["Cache-Control: min-fresh"],
        min_fresh(u32::MAX),
    ),
    (
        "5.2.1.3: unreadable",
        &["Cache-Control: min-fresh=a"],
        min_fresh(u32::MAX),
    ),
    (
        "most",
        &["Cache-Control: min-fresh=9, min-fresh=11"],
        min_fresh(11),
    ),
    ("5.2.1.4", &["Cache-Control: No-Cache"], ASKS_AGAIN),
    ("5.2.1.5", &["Cache-Control: no-store"], ASKS_APART),
    ("5.2.1.7", &["Cache-Control: only-if-cached"], ASKS_HERE),
    (
        "5861 4",
        &["Cache-Control: stale-if-error=3"],
        stale_if_error(3),
    ),
    (
        "5861 4: unreadable",
        &["Cache-Control: stale-if-error"],
        stale_if_error(0),
    ),
    (
        "9110 5.3",
        &["Cache-Control: no-cache", "cache-control: no-store"],
        ASKS_BOTH,
    ),
    (
        "5.2.3: unknown",
        &["Cache-Control: nothing-to-see-here"],
        ASKS_NOTHING,
    ),
    ("5.4", &["Pragma: no-cache"], ASKS_AGAIN),
    ("5.4", &["Pragma: foo=\"a, b\", No-Cache"], ASKS_AGAIN),
    ("5.4: unknown", &["Pragma: cache"], ASKS_NOTHING),
    (
        "5.4: in a string",
        &["Pragma: foo=\", no-cache\""],
        ASKS_NOTHING,
    ),
    (
        "5.4: not with Cache-Control",
        &["Pragma: no-cache", "Cache-Control: foo"],
        ASKS_NOTHING,
    ),
];

#[test]
fn what_requests_ask() {
    for (section, fields, expected) in REQUESTS {
        let found = with_request("/", fields, asked);
        assert_eq!(found, *expected, "{section}: {fields:?}");
    }
}

const NONE: Directives = Directives {
    no_store: false,
    no_cache: false,
    private: false,
    public: false,
    must_understand: false,
    must_revalidate: false,
    lifetime_s: None,
    s_maxage: false,
    stale_while_revalidate_s: None,
    stale_if_error_s: None,
    for_authorized: false,
    targeted: false,
};

const fn lifetime(seconds: u32) -> Directives {
    Directives {
        lifetime_s: Some(seconds),
        ..NONE
    }
}

const fn shared(seconds: u32) -> Directives {
    Directives {
        s_maxage: true,
        for_authorized: true,
        ..lifetime(seconds)
    }
}

const NO_STORE: Directives = Directives {
    no_store: true,
    ..NONE
};
const NO_CACHE: Directives = Directives {
    no_cache: true,
    ..NONE
};
const PRIVATE: Directives = Directives {
    private: true,
    ..NONE
};
const STRICT: Directives = Directives {
    must_revalidate: true,
    ..NONE
};
const MUST_REVALIDATE: Directives = Directives {
    for_authorized: true,
    ..STRICT
};
const PUBLIC: Directives = Directives {
    public: true,
    for_authorized: true,
    ..NONE
};
const UNDERSTAND: Directives = Directives {
    must_understand: true,
    ..NONE
};
const UNREADABLE: Directives = Directives {
    no_cache: true,
    ..lifetime(0)
};
const ASKED_FOR: Directives = Directives {
    no_cache: true,
    ..shared(10)
};
const NEITHER: Directives = Directives {
    no_cache: true,
    for_authorized: false,
    ..shared(0)
};
const WINDOWS: Directives = Directives {
    stale_while_revalidate_s: Some(4),
    stale_if_error_s: Some(5),
    ..NONE
};
const NO_WINDOWS: Directives = Directives {
    stale_while_revalidate_s: Some(0),
    stale_if_error_s: Some(0),
    ..NONE
};

const RESPONSES: &[(&str, &str, Directives)] = &[
    ("none", "", NONE),
    ("5.2.2.1", "max-age=10", lifetime(10)),
    ("5.2", "MaX-aGe=10", lifetime(10)),
    ("5.2: strings", "max-age=\"10\"", lifetime(10)),
    ("5.2: strings", "max-age=\"10\" , foo", lifetime(10)),
    ("5.2.3: unknown", "foobar, max-age=10", lifetime(10)),
    ("5.2.3: unknown", "foo=bar , max-age=10,,", lifetime(10)),
    (
        "5.2.3: unknown",
        "foo=\"max-age=9, no-store\", max-age=10",
        lifetime(10),
    ),
    (
        "5.2.3: unknown",
        "max-age=10, foo=\"\\\", max-age=9\"",
        lifetime(10),
    ),
    ("1.2.2", "max-age=0", lifetime(0)),
    ("1.2.2", "max-age=007", lifetime(7)),
    ("1.2.2", "max-age=2147483647", lifetime(SECONDS_MAX)),
    ("1.2.2", "max-age=2147483648", lifetime(SECONDS_MAX)),
    (
        "1.2.2",
        "max-age=99999999999999999999999999",
        lifetime(SECONDS_MAX),
    ),
    ("4.2.1: unreadable", "max-age", UNREADABLE),
    ("4.2.1: unreadable", "max-age=", UNREADABLE),
    ("4.2.1: unreadable", "max-age=\"\"", UNREADABLE),
    ("4.2.1: unreadable", "max-age=-3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age=+3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age=3600.0", UNREADABLE),
    ("4.2.1: unreadable", "max-age='3600'", UNREADABLE),
    ("4.2.1: unreadable", "max-age=a3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age=3600a", UNREADABLE),
    ("4.2.1: unreadable", "max-age=36 00", UNREADABLE),
    ("4.2.1: unreadable", "max-age =3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age= 3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age=\"3600", UNREADABLE),
    ("4.2.1: unreadable", "max-age=\"3600\"0", UNREADABLE),
    ("4.2.1: unreadable", "max-age=\"36\\00\"", UNREADABLE),
    ("4.2.1: unreadable", "max-age=3600; foo", UNREADABLE),
    ("4.2.1: least", "max-age=1800, max-age=1", lifetime(1)),
    ("4.2.1: least", "max-age=1, max-age=1800", lifetime(1)),
    ("4.2.1: least", "max-age=1800, max-age=x", UNREADABLE),
    ("5.2.2.10", "s-maxage=10", shared(10)),
    ("5.2.2.10: first", "max-age=3600, s-maxage=1", shared(1)),
    ("5.2.2.10: first", "s-maxage=3600, max-age=1", shared(3600)),
    ("5.2.2.10: first", "max-age=x, s-maxage=10", ASKED_FOR),
    ("5.2.2.10: unreadable", "max-age=3600, s-maxage=x", NEITHER),
    ("5.2.2.2", "must-revalidate", MUST_REVALIDATE),
    ("5.2.2.2: with an argument", "must-revalidate=1", STRICT),
    ("5.2.2.3", "must-understand", UNDERSTAND),
    ("5.2.2.4", "no-cache", NO_CACHE),
    (
        "5.2.2.4: with names",
        "no-cache=\"Set-Cookie, foo\"",
        NO_CACHE,
    ),
    ("5.2.2.4: with names", "no-cache=Set-Cookie", NO_CACHE),
    ("5.2.2.5", "No-StOrE", NO_STORE),
    ("5.2.2.5: with an argument", "no-store=1", NO_STORE),
    (
        "5.2.2.5: in spite of faults",
        "foo=\"bar, no-store",
        NO_STORE,
    ),
    ("5.2.2.5: in spite of faults", "no-store; foo", NO_STORE),
    ("5.2.2.5: in spite of faults", "foo; no-store", NO_STORE),
    ("5.2.2.5: in spite of faults", "no-store =", NO_STORE),
    ("5.2.2.7", "private", PRIVATE),
    ("5.2.2.7: with names", "private=\"X-Foo\"", PRIVATE),
    ("5.2.2.8", "proxy-revalidate", STRICT),
    ("5.2.2.9", "public", PUBLIC),
    ("9110 5.6.1: white space", "foo , public , bar", PUBLIC),
    ("5.2.2.9: with an argument", "public=1", NONE),
    ("5.2.2.9: with a fault", "public; foo", NONE),
    (
        "5861",
        "stale-while-revalidate=4, stale-if-error=5",
        WINDOWS,
    ),
    (
        "5861: unreadable",
        "stale-while-revalidate, stale-if-error=x",
        NO_WINDOWS,
    ),
];

#[test]
fn what_responses_say() {
    for (section, value, expected) in RESPONSES {
        let field = format!("Cache-Control: {value}");
        let found = with_response(200, &[field], |response| directives(response, true));
        assert_eq!(found, *expected, "{section}: {value}");
    }
}

#[test]
fn lines_are_one_list() {
    let fields = [
        "Cache-Control: max-age=5",
        "X: y",
        "CACHE-CONTROL: max-age=3, public",
    ];
    let found = with_response(200, &fields, |response| directives(response, true));
    assert_eq!((found.lifetime_s, found.public), (Some(3), true));
}

/// What Cache-Control says, where the other one does not count.
const OTHER: Directives = lifetime(7);

const fn targeted(directives: Directives) -> Directives {
    Directives {
        targeted: true,
        ..directives
    }
}

const TARGETED: &[(&str, &[&str], Directives)] = &[
    ("9213 2.2", &["max-age=3600"], targeted(lifetime(3600))),
    ("9213 2.2: nothing known", &["foo"], targeted(NONE)),
    ("9213 2.2", &["no-store"], targeted(NO_STORE)),
    ("9213 2.2", &["private"], targeted(PRIVATE)),
    ("9213 2.2", &["s-maxage=9, max-age=10"], targeted(shared(9))),
    ("9213 2.1: empty", &[""], OTHER),
    (
        "9213 2.1: parameters",
        &["max-age=5;foo=1; bar;*b=\"x\""],
        targeted(lifetime(5)),
    ),
    (
        "8941 3.2: lines",
        &["foo", "", "max-age=5"],
        targeted(lifetime(5)),
    ),
    (
        "8941 3.2: white space",
        &["a\t,  max-age=5"],
        targeted(lifetime(5)),
    ),
    (
        "8941 3.2: false",
        &["no-store=?0, max-age=5"],
        targeted(lifetime(5)),
    ),
    ("8941 3.2: true", &["no-store=?1"], targeted(NO_STORE)),
    ("strict: any argument", &["no-store=1"], targeted(NO_STORE)),
    (
        "5.2.2.4: with names",
        &["no-cache=\"a, b\""],
        targeted(NO_CACHE),
    ),
    (
        "strict: least",
        &["max-age=9, max-age=5, max-age=7"],
        targeted(lifetime(5)),
    ),
    ("1.2.2", &["max-age=-5"], targeted(lifetime(0))),
    (
        "1.2.2",
        &["max-age=99999999999"],
        targeted(lifetime(SECONDS_MAX)),
    ),
    (
        "8941: all types",
        &[
            "a=1.5, b=tok:en/*, c=:YQ==:, d=(1 \"x\";p  z);q, e=?0, f=\"\\\"\\\\\", *g-._*=-1, max-age=5",
        ],
        targeted(lifetime(5)),
    ),
    ("9213 2.1: type", &["max-age=\"5\""], OTHER),
    ("9213 2.1: type", &["max-age"], OTHER),
    ("9213 2.1: type", &["max-age=5.0"], OTHER),
    ("9213 2.1: type", &["max-age=(5)"], OTHER),
    ("9213 2.1: type", &["s-maxage=?1"], OTHER),
    ("8941 4.2: fault", &["max-age=5, &&&&&"], OTHER),
    ("8941 4.2: fault", &["max-age=5", "&&&&&"], OTHER),
    ("8941 4.2: fault", &["max-age=5,"], OTHER),
    ("8941 4.2: fault", &[",max-age=5"], OTHER),
    ("8941 4.2: fault", &["max-age=5 foo"], OTHER),
    ("8941 4.2: fault", &["max-age =5"], OTHER),
    ("8941 4.2: fault", &["max-age= 5"], OTHER),
    ("8941 4.2: fault", &["MaX-aGe=5"], OTHER),
    ("8941 4.2: fault", &["max-age=1234567890123456"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=1234567890123.1"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=1.1234"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=1."], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=-"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a="], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=\"b"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=\"\\b\""], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=\"\u{e9}\""], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=:YQ=="], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=?2"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=(1 2"], OTHER),
    ("8941 4.2: fault", &["max-age=5, a=(1,2)"], OTHER),
    ("8941 4.2: fault", &["max-age=5;"], OTHER),
    ("8941 4.2: fault", &["max-age=5;A"], OTHER),
];

#[test]
fn the_targeted_field_replaces_the_other() {
    for (section, values, expected) in TARGETED {
        let mut fields = vec!["Cache-Control: max-age=7".to_owned()];
        let own = values
            .iter()
            .map(|value| format!("CDN-Cache-Control: {value}"));
        fields.extend(own);
        let found = with_response(200, &fields, |response| directives(response, true));
        assert_eq!(found, *expected, "{section}: {values:?}");
        let found = with_response(200, &fields, |response| directives(response, false));
        assert_eq!(found, OTHER, "{values:?}, where it does not count");
    }
}
