//! Routes: conditions, rewriting, redirects, answers, mirrors, pages.

use corelane::config::plan::{Destination, Mirror};
use corelane::policy::ClusterId;
use corelane::policy::rewrite::{Own, Rewrite};

use super::{load, plan};

/// Conditions, rewriting, mirrors, and routes that need no backend.
const ROUTES: &str = r#"
[[error_pages]]
status = ["5xx"]
body = "file:/page.html"
[[clusters]]
name = "a"
backends = ["http://a"]
[[clusters]]
name = "b"
backends = ["http://b"]
[[routes]]
cluster = "a"
path_prefix = "/api/"
headers = ["X-Beta", "X-Version:2"]
query = ["debug", "v="]
clients = ["10.0.0.0/8"]
priority = 1000
strip_prefix = "/api"
add_prefix = "/v1"
mirror = "b"
mirror_percent = 5
[[routes.error_pages]]
status = ["404", "410-418"]
content_type = "text/plain"
body = "{route}: {reason}"
[[routes]]
hosts = ["a.example"]
redirect = "https://{host}{path}{query}"
[[routes]]
path = "/hello"
answer = { status = 404, body = "no {path}" }
[[routes]]
cluster = "a"
"#;

#[test]
fn routes_match_rewrite_redirect_answer_and_mirror() {
    let plan = plan(ROUTES);
    let route = &plan.routes[0];
    let rewrite = Rewrite {
        strip: Some("/api".into()),
        add: Some("/v1".into()),
        replace: None,
    };
    assert_eq!(route.rewrite, Some(rewrite));
    let mirror = Mirror {
        cluster: ClusterId(1),
        percent: 5,
    };
    assert_eq!(route.mirror, Some(mirror));
    let pages = route.error_pages.iter();
    let pages: Vec<_> = pages
        .map(|page| (&*page.statuses, &*page.content_type, page.body.show()))
        .collect();
    let own = "{route}: {reason}".to_owned();
    assert_eq!(
        pages,
        [
            (&[(404, 404), (410, 418)][..], "text/plain", own),
            (
                &[(500, 599)][..],
                "text/html; charset=utf-8",
                "<h1>{status}</h1>\n".to_owned()
            )
        ]
    );
    let top = plan.error_pages.iter().map(|page| &*page.statuses);
    assert_eq!(top.collect::<Vec<_>>(), [&[(500, 599)]]);
    let Destination::Own(Own::Redirect { status, location }) = &plan.routes[1].destination else {
        panic!("{:?}", plan.routes[1].destination);
    };
    let to = location.show();
    assert_eq!((*status, &*to), (308, "https://{host}{path}{query}"));
    let Destination::Own(Own::Answer {
        status,
        content_type,
        body,
    }) = &plan.routes[2].destination
    else {
        panic!("{:?}", plan.routes[2].destination);
    };
    assert_eq!(
        (*status, &**content_type, &*body.show()),
        (404, "text/plain; charset=utf-8", "no {path}")
    );
    let loaded = load("[[routes]]\nredirect = \"https://a.example/\"", &[], &[]);
    assert!(loaded.is_ok(), "a proxy that only redirects has no cluster");
}
