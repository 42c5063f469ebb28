// SPDX-License-Identifier: MIT OR Apache-2.0
//! The profiles endpoint (MT-53). Reading is public; writing needs the password of the group.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult, plain};
use crate::mytoken::body;
use crate::mytoken::model::codes;
use crate::mytoken::model::templates::{StoredTemplate, TemplateKind};
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    /// `rest` is the path below the endpoint.
    pub(crate) fn profiles(&self, context: &RequestContext<'_>, rest: &str) -> ApiResult<Response> {
        let missing = || ApiError::not_found(&context.request.path);
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        let method = context.request.method.as_str();
        match (method, segments.as_slice()) {
            ("GET", []) => Ok(Response::json(200, &self.group_names())),
            ("GET", [kind]) => self.list_templates(context, "_", TemplateKind::of(kind).ok_or_else(missing)?),
            ("GET", [group, kind]) => self.list_templates(context, group, TemplateKind::of(kind).ok_or_else(missing)?),
            ("POST" | "PUT" | "DELETE", [group, kind]) => {
                self.write_template(context, group, TemplateKind::of(kind).ok_or_else(missing)?, None)
            }
            ("PUT" | "DELETE", [group, kind, id]) => {
                self.write_template(context, group, TemplateKind::of(kind).ok_or_else(missing)?, Some(id))
            }
            _ => Err(missing()),
        }
    }

    fn group_names(&self) -> Value {
        let state = self.state();
        let mut groups: Vec<&str> = state.templates.all.iter().map(|template| template.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() { Value::Null } else { json!(groups) }
    }

    fn list_templates(&self, context: &RequestContext<'_>, group: &str, kind: TemplateKind) -> ApiResult<Response> {
        let state = self.state();
        let mut list = Vec::new();
        for template in state.templates.all.iter().filter(|one| one.group == group && one.kind == kind) {
            let payload = state
                .templates
                .expanded(template, context.now)
                .map_err(|problem| ApiError::internal(problem.description.unwrap_or_default()))?;
            list.push(json!({"id": template.id, "name": template.name, "payload": payload}));
        }
        Ok(Response::json(200, &if list.is_empty() { Value::Null } else { json!(list) }))
    }

    fn write_template(
        &self,
        context: &RequestContext<'_>,
        group: &str,
        kind: TemplateKind,
        id: Option<&str>,
    ) -> ApiResult<Response> {
        match self.authenticated_group(context) {
            None => return Ok(plain(401, "Unauthorized").with("WWW-Authenticate", "basic realm=Restricted")),
            Some(user) if user != group => return Err(ApiError::new(403, "Forbidden", "Forbidden")),
            Some(_) => {}
        }
        let mut state = self.state();
        let templates = &mut state.templates.all;
        if context.request.method == "DELETE" {
            let id = template_id(id, context)?;
            templates.retain(|template| !(template.id == id && template.group == group && template.kind == kind));
            return Ok(Response::empty(204));
        }
        let members = body::json(context.request, "profile")?;
        let name = body::text(&members, "name")?;
        let payload = members.get("payload").cloned().unwrap_or(Value::Null);
        let same_name =
            |template: &StoredTemplate| template.group == group && template.kind == kind && template.name == name;
        let duplicate = || ApiError::internal("Error 1062 (23000): Duplicate entry for key 'ServerProfiles_UN'");
        if context.request.method == "PUT" {
            let id = template_id(id, context)?;
            if templates.iter().any(|template| same_name(template) && template.id != id) {
                return Err(duplicate());
            }
            for template in templates.iter_mut().filter(|template| template.id == id) {
                template.name.clone_from(&name);
                template.payload.clone_from(&payload);
            }
            return Ok(plain(200, "OK"));
        }
        if templates.iter().any(same_name) {
            return Err(duplicate());
        }
        templates.push(StoredTemplate { id: codes::uuid()?, group: group.to_owned(), kind, name, payload });
        Ok(plain(201, "Created"))
    }

    /// The group whose password the request has, by HTTP Basic.
    fn authenticated_group(&self, context: &RequestContext<'_>) -> Option<String> {
        let (scheme, encoded) = context.request.header("Authorization")?.split_once(' ')?;
        let decoded = STANDARD.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let text = String::from_utf8(decoded).ok()?;
        let (group, password) = text.split_once(':')?;
        (self.config.groups.get(group)? == password).then(|| group.to_owned())
    }
}

/// The id of a template: from the path, otherwise from the body.
fn template_id(id: Option<&str>, context: &RequestContext<'_>) -> ApiResult<String> {
    let id = match id {
        Some(id) => id.to_owned(),
        None => body::text(&body::json(context.request, "profile")?, "id")?,
    };
    if id.len() == 36 {
        return Ok(id);
    }
    Err(ApiError::invalid_request(format!("uuid: incorrect UUID length {} in string \"{id}\"", id.len())))
}
