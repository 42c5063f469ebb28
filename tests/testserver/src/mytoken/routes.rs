// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes of the server (MT-02). Paths are case-insensitive and may end with one slash. A wrong method is a 404, like
//! an unknown path.

use crate::http::{Handler, Reply, Request, Response};
use crate::mytoken::answer::{ApiError, ApiResult, html};
use crate::mytoken::faults::ActiveFaults;
use crate::mytoken::journal::REQUEST_ID;
use crate::mytoken::limit::Admission;
use crate::mytoken::model::codes;
use crate::mytoken::paths::{ENDPOINTS, below, endpoint_name};
use crate::mytoken::server::{RequestContext, Server};

impl Handler for Server {
    fn handle(&self, request: &Request) -> Reply {
        let endpoint = endpoint_name(&request.path);
        let faults = self.faults.take_for(endpoint);
        let reply =
            faults.replacement(request).unwrap_or_else(|| faults.deliver(self.answer_within_limit(request, &faults)));
        self.journal.record(request, endpoint, &reply);
        reply
    }

    fn not_sent(&self, answer: &Response) {
        self.journal.mark_unsent(answer);
    }
}

impl Server {
    fn answer_within_limit(&self, request: &Request, faults: &ActiveFaults) -> Response {
        let context = RequestContext { request, now: self.now() };
        let mut answer = match self.limiter.admit(self.config.limit.as_ref(), request.peer, context.now) {
            Admission::Refused(answer) => answer,
            Admission::Pass(headers) => {
                let mut answer = self.answer(&context, faults);
                answer.headers.extend(headers);
                answer
            }
        };
        if let Ok(id) = codes::uuid() {
            answer.headers.push((REQUEST_ID.into(), id));
        }
        if below(&request.path, "/api").is_some() || endpoint_name(&request.path) == "discovery" {
            answer.headers.push(("Access-Control-Allow-Origin".into(), "*".into()));
        }
        answer
    }

    fn answer(&self, context: &RequestContext<'_>, faults: &ActiveFaults) -> Response {
        let request = context.request;
        // One trailing slash is ignored, a second one is not.
        let path = request.path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(&request.path);
        if request.method == "OPTIONS" && request.header("Access-Control-Request-Method").is_some() {
            return Response::empty(204)
                .with("Access-Control-Allow-Methods", "GET,POST,HEAD,PUT,DELETE,PATCH")
                .with("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        }
        if let Some(answer) = self.browser_page(context, path) {
            return answer;
        }
        self.api(context, path, faults).unwrap_or_else(|problem| {
            if problem.error == "not_found" && below(path, "/api").is_none() {
                return missing_page(request);
            }
            problem.response()
        })
    }

    fn api(&self, context: &RequestContext<'_>, path: &str, faults: &ActiveFaults) -> ApiResult<Response> {
        let method = match context.request.method.as_str() {
            // The listener leaves out the body.
            "HEAD" => "GET",
            method => method,
        };
        let name = endpoint_name(path);
        let rest = ENDPOINTS.iter().find_map(|(prefix, _)| below(path, prefix)).unwrap_or_default();
        match (method, name, rest) {
            ("GET", "discovery", "") => Ok(Response::json(200, &self.configuration())),
            ("GET", "jwks", "") => Ok(Response::json(200, &self.key.jwks())),
            ("POST", "access_token", "") => self.access_token(context, faults.empties_access_token()),
            ("POST", "mytoken", "") => self.mytoken(context, faults.broadens_child()),
            ("POST", "revocation", "") => self.revocation(context),
            ("POST", "transfer", "") => self.transfer(context),
            ("POST", "tokeninfo", "") => self.tokeninfo(context),
            ("GET", "settings", "") => Ok(self.settings_index()),
            ("GET" | "POST" | "DELETE", "settings", rest) if rest.eq_ignore_ascii_case("/grants") => {
                self.grants(context)
            }
            (_, "profiles", rest) => self.profiles(context, rest),
            (_, "guests", rest) => self.guests(context, rest),
            _ => Err(ApiError::not_found(&context.request.path)),
        }
    }

    /// The pages for browsers.
    fn browser_page(&self, context: &RequestContext<'_>, path: &str) -> Option<Response> {
        let request = context.request;
        if let Some(code) = below(path, "/c").and_then(|rest| rest.strip_prefix('/')) {
            return match request.method.as_str() {
                "GET" => {
                    Some(self.consent_page(context, code).unwrap_or_else(|problem| {
                        if wants_html(request) { problem.page() } else { problem.response() }
                    }))
                }
                "POST" => Some(self.consent(context, code).unwrap_or_else(|problem| problem.response())),
                _ => None,
            };
        }
        if request.method != "GET" {
            return None;
        }
        match path.to_ascii_lowercase().as_str() {
            "/redirect" => Some(self.redirect(context).unwrap_or_else(|problem| problem.page())),
            "/native" => Some(html(200, "Done", "The mytoken is ready. You can close this page.")),
            "/native/abort" => Some(html(200, "Declined", "No mytoken was made. You can close this page.")),
            "/" | "/home" => Some(html(200, "mytoken", "A mytoken server for tests.")),
            _ => None,
        }
    }
}

/// Whether the client accepts HTML. A request without `Accept` accepts everything.
fn wants_html(request: &Request) -> bool {
    request.header("Accept").is_none_or(|accept| {
        accept.split(',').any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim();
            range == "text/html" || range == "*/*"
        })
    })
}

fn missing_page(request: &Request) -> Response {
    if wants_html(request) {
        return html(404, "Not Found", &request.path);
    }
    ApiError::not_found(&request.path).response()
}
