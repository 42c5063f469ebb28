// SPDX-License-Identifier: MIT OR Apache-2.0
//! The URL of a proxy.

use url::Url;

/// Reads the URL of an HTTP proxy. `HOST:PORT` stands for `http://HOST:PORT`.
///
/// # Errors
/// A sentence. It does not repeat the text, which may hold a password.
pub fn proxy_url(text: &str) -> Result<Url, String> {
    const FORM: &str = "write it as http://HOST:PORT";
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|_| format!("the URL of the proxy is malformed; {FORM}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        let scheme = url.scheme().escape_debug();
        return Err(format!("the URL of the proxy begins with {scheme}://, which is neither http nor https; {FORM}"));
    }
    if !["", "/"].contains(&url.path()) || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("the URL of the proxy has more than a host and a port; {FORM}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_that_is_reached_by_http() {
        for (text, url) in [
            ("http://proxy.example.org:3128", "http://proxy.example.org:3128/"),
            ("https://proxy/", "https://proxy/"),
            ("proxy.example.org:3128", "http://proxy.example.org:3128/"),
            ("10.0.0.1:3128", "http://10.0.0.1:3128/"),
            ("http://me:p%40ss@[2001:db8::1]:8080", "http://me:p%40ss@[2001:db8::1]:8080/"),
        ] {
            assert_eq!(proxy_url(text).map(String::from), Ok(url.to_owned()), "{text}");
        }
        for (text, problem) in [
            ("", "malformed"),
            ("http://", "malformed"),
            ("http://a b", "malformed"),
            ("htpp://proxy:3128", "begins with htpp://, which is neither"),
            ("socks5://proxy:1080", "begins with socks5://"),
            ("http://proxy:3128/path", "more than a host"),
            ("http://proxy:99999", "malformed"),
            ("secret@", "malformed"),
        ] {
            let said = proxy_url(text).unwrap_err();
            assert!(said.contains(problem) && !said.contains("secret"), "{text}: {said}");
        }
    }
}
