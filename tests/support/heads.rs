//! Heads as they are sent in the wild, for benchmarks and the tests beside them.

pub(crate) const SMALL: &str = "GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n";

pub(crate) const BROWSER: &str = "GET /articles/2026/11/a-page?utm_source=newsletter HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    Sec-Ch-Ua: \"Chromium\";v=\"143\", \"Not A(Brand\";v=\"24\", \"Google Chrome\";v=\"143\"\r\n\
    Sec-Ch-Ua-Mobile: ?0\r\n\
    Sec-Ch-Ua-Platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://www.example.org/articles/2026/11/another-page-with-a-long-name\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7,fr;q=0.6\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; consent=all\r\n\r\n";

pub(crate) const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Server: backend\r\n\
    Date: Fri, 20 Nov 2026 18:28:03 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"0123456789abcdef\"\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\
    Content-Length: 4096\r\n\r\n";
