//! One image.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Request, header};

use super::{
    model::{Image, Member, Members, Task, Tasks},
    uploads::Progress,
};
use crate::{
    Dashboard,
    api::{Service, encoded, refused},
    failure::{Failure, Result},
    frame::Frame,
    session::Scope,
    visit::Visit,
};

#[derive(Template)]
#[template(path = "images/detail.html")]
struct Page {
    frame: Frame,
    image: Image,
    progress: Option<Arc<Progress>>,
    /// Of a shared image; of another project's only one's own.
    members: Vec<Member>,
    tasks: Vec<Task>,
    /// The project one works in.
    here: String,
    /// Whether it belongs to that project.
    ours: bool,
    path: String,
}

impl Page {
    /// What this project said to an offer of another.
    fn answer(&self) -> Option<&str> {
        let own = self.members.iter().find(|member| member.member_id == self.here)?;
        (!self.ours).then_some(own.status.as_str())
    }

    /// Whether the visitor may be expected to change it. The service decides.
    fn manages(&self) -> bool {
        self.ours || self.frame.admin
    }
}

/// `GET /images/{id}`.
pub(super) async fn show(visit: Visit, State(dashboard): State<Dashboard>, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/images/{}", encoded(&id));
    let image: Image = visit.api.get(Service::Images, &path).await?;
    let members: Option<Members> = match image.visibility.as_str() {
        "shared" => visit.api.find(Service::Images, &format!("{path}/members")).await?,
        _ => None,
    };
    let tasks: Option<Tasks> = visit.api.find(Service::Images, &format!("{path}/tasks")).await?;
    let here = match &visit.session()?.scope {
        Scope::Project { project, .. } => project.id.clone(),
        _ => String::new(),
    };
    visit.page(&Page {
        frame: visit.frame("/images", image.title().to_owned()).live(),
        progress: dashboard.uploads.find(&image.id),
        members: members.unwrap_or_default().members,
        tasks: tasks.unwrap_or_default().tasks,
        ours: image.owner.as_deref() == Some(here.as_str()),
        here,
        image,
        path,
    })
}

/// `GET /images/{id}/download`: the bytes as they are, also a part of them.
pub(super) async fn download(visit: Visit, Path(id): Path<String>, headers: HeaderMap) -> Result<Response> {
    let path = format!("/images/{}", encoded(&id));
    let image: Image = visit.api.get(Service::Images, &path).await?;
    let mut request = Request::get(format!("/image/v2{path}/file"));
    if let Some(range) = headers.get(header::RANGE) {
        request = request.header(header::RANGE, range);
    }
    let request = request.body(Body::empty()).map_err(|_| Failure::not_found("There is no such image."))?;
    let response = visit.api.raw(request).await?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let (parts, body) = response.into_parts();
    let mut answer = (parts.status, body).into_response();
    for name in [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES] {
        if let Some(value) = parts.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // Compressing it would take its length, and seldom make it shorter.
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    let name = format!("attachment; filename=\"{}\"", file_name(&image));
    let name = HeaderValue::from_str(&name).map_err(Failure::internal)?;
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(answer)
}

/// What the browser is to call the file: letters that no shell and no header minds.
fn file_name(image: &Image) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = image.title().chars().take(100).map(plain).collect();
    let end = image.disk_format.as_deref().unwrap_or("img");
    let name = name.trim_start_matches('.');
    if name.ends_with(&format!(".{end}")) { name.to_owned() } else { format!("{name}.{end}") }
}
