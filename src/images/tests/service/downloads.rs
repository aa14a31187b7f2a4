//! `web-download` from a web server of the test's own, which only an allowed network makes reachable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use disks::corpus;
use http::{StatusCode, header};
use images::{Downloads, Guard, Options};
use serde_json::{Value, json};
use tasks::Faults;

use crate::harness::{Cloud, wait_for};

const DATA: &[u8] = b"data of the web";

/// What the test's server has, and how often it was asked.
struct Web {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Web {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let router = Router::new().fallback(async move |request: Request| {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            answer(at, &request, n)
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Web { at, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(at: SocketAddr, request: &Request, n: usize) -> Response {
    match request.uri().path() {
        "/data" => DATA.into_response(),
        "/qcow2" => corpus::qcow2().0.into_response(),
        "/chunked" => {
            let pieces = (0..4).map(|_| Ok::<_, std::convert::Infallible>(DATA));
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
        "/hop" => Redirect::temporary("/folder/hop").into_response(),
        "/folder/hop" => Redirect::permanent("../data").into_response(),
        "/data-of-it" | "/folder/../data" => DATA.into_response(),
        "/loop" => Redirect::temporary("/loop").into_response(),
        // The same server by a name and by addresses that the guard does not let through.
        "/to-name" => Redirect::temporary(&format!("http://localhost:{}/data", at.port())).into_response(),
        "/to-metadata" => Redirect::temporary("http://169.254.169.254/latest/meta-data/").into_response(),
        "/to-mapped" => Redirect::temporary(&format!("http://[::ffff:10.0.0.1]:{}/data", at.port())).into_response(),
        "/to-file" => Redirect::temporary("file:///etc/passwd").into_response(),
        "/flaky" if n == 0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/flaky" => DATA.into_response(),
        "/gzip" => ([(header::CONTENT_ENCODING, "gzip")], DATA).into_response(),
        "/big" => vec![0u8; 4_000_000].into_response(),
        "/slow" => {
            let endless = futures::stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, std::convert::Infallible>("more"), ()))
            });
            Body::from_stream(Box::pin(endless)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Lets the test's server through, and nothing else that is near.
fn near(options: &mut Options) {
    let guard = Guard {
        allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
        allowed_ports: Vec::new(),
        ..Guard::default()
    };
    options.downloads = Some(Downloads { guard, ..Downloads::default() });
}

async fn import(cloud: &Cloud, format: &str, uri: &str) -> String {
    let id = cloud.create("member", json!({"disk_format": format, "container_format": "bare"})).await;
    let body = json!({"method": {"name": "web-download", "uri": uri}});
    cloud.post("member", &format!("/v2/images/{id}/import"), body).await.expect(202);
    id
}

/// The image when its import has ended in one way or the other.
async fn ended(cloud: &Cloud, id: &str) -> Value {
    wait_for("the end of the import", || async {
        let image = cloud.show("member", id).await;
        match image["status"].as_str() {
            Some("active" | "queued") => Ok(image),
            _ => Err(image.to_string()),
        }
    })
    .await
}

async fn failure(cloud: &Cloud, id: &str) -> String {
    let image = ended(cloud, id).await;
    assert_eq!((&image["status"], &image["os_glance_failed_import"]), (&json!("queued"), &json!("local")), "{image}");
    let tasks = cloud.get("member", &format!("/v2/images/{id}/tasks")).await.expect(200);
    assert_eq!(tasks["tasks"][0]["status"], "failure");
    tasks["tasks"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_url_holds_becomes_the_image() {
    let (cloud, web) = (Cloud::start_with(near).await, Web::start().await);
    let id = import(&cloud, "raw", &web.url("/data?token=secret")).await;
    let image = ended(&cloud, &id).await;
    assert_eq!((&image["status"], &image["size"]), (&json!("active"), &json!(DATA.len())));
    assert_eq!((&image["os_glance_failed_import"], &image["os_glance_importing_to_stores"]), (&json!(""), &json!("")));
    assert_eq!(cloud.get("member", &format!("/v2/images/{id}/file")).await.bytes, DATA);
    let tasks = cloud.get("member", &format!("/v2/images/{id}/tasks")).await;
    assert!(!tasks.text().contains("secret"), "a URL may be a secret");
    assert_eq!(tasks.expect(200)["tasks"][0]["input"]["import_req"]["method"]["name"], "web-download");
    let chunked = import(&cloud, "raw", &web.url("/chunked")).await;
    assert_eq!(ended(&cloud, &chunked).await["size"], 4 * DATA.len());
    let disk = import(&cloud, "qcow2", &web.url("/qcow2")).await;
    assert_eq!(ended(&cloud, &disk).await["virtual_size"], corpus::qcow2().1.len());
    let hopped = import(&cloud, "raw", &web.url("/hop")).await;
    assert_eq!(ended(&cloud, &hopped).await["status"], "active");
    cloud.wait_for_files(&[&id, &chunked, &disk, &hopped]).await;
    // Data is never replaced.
    let body = json!({"method": {"name": "web-download", "uri": web.url("/data")}});
    cloud.post("member", &format!("/v2/images/{id}/import"), body).await.refused(409);
}

#[tokio::test]
async fn what_is_not_of_the_internet_is_never_asked() {
    let (cloud, web) = (Cloud::start().await, Web::start().await);
    let id = cloud.create_raw("member").await;
    for uri in [
        web.url("/data").as_str(),
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://2130706433/x",
        "http://example.org:22/x",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "http://user:password@example.org/x",
        "nonsense",
    ] {
        let body = json!({"method": {"name": "web-download", "uri": uri}});
        let text = cloud.post("member", &format!("/v2/images/{id}/import"), body).await.refused(400);
        assert!(text.contains("does not pass filtering"), "{uri}: {text}");
    }
    assert_eq!(cloud.show("member", &id).await["status"], "queued");
    // A name says nothing until it is looked up.
    let cloud = Cloud::start_with(|options| {
        let guard = Guard { allowed_ports: Vec::new(), ..Guard::default() };
        options.downloads = Some(Downloads { guard, ..Downloads::default() });
    })
    .await;
    let id = import(&cloud, "raw", &format!("http://localhost:{}/data", web.at.port())).await;
    let text = failure(&cloud, &id).await;
    assert!(text.contains("has no address that may be fetched from") && !text.contains("127.0.0.1"), "{text}");
    assert_eq!(web.asked(), 0);
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_a_user_may_not_go() {
    let (cloud, web) = (Cloud::start_with(near).await, Web::start().await);
    for (path, reason) in [
        ("/to-metadata", "169.254.169.254"),
        ("/to-mapped", "is not allowed"),
        ("/to-file", "is not an absolute http or https URL"),
        ("/loop", "more than 5 redirects"),
        ("/absent", "status 404"),
        ("/gzip", "encoding"),
    ] {
        let id = import(&cloud, "raw", &web.url(path)).await;
        let text = failure(&cloud, &id).await;
        assert!(text.contains(reason), "{path}: {text}");
    }
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_and_one_that_sends_too_much_is_not() {
    let web = Web::start().await;
    let cloud = Cloud::start_with(|options| {
        near(options);
        options.max_image_bytes = 3_000_000;
    })
    .await;
    let id = import(&cloud, "raw", &web.url("/flaky")).await;
    assert_eq!(ended(&cloud, &id).await["status"], "active");
    assert_eq!(web.asked(), 2);
    let big = import(&cloud, "raw", &web.url("/big")).await;
    assert!(failure(&cloud, &big).await.contains("larger than 3000000 bytes"));
    assert_eq!(web.asked(), 3);
    let lie = import(&cloud, "qcow2", &web.url("/data")).await;
    assert!(failure(&cloud, &lie).await.contains("Image content is not acceptable"));
    // What failed can be tried again.
    let body = json!({"method": {"name": "web-download", "uri": web.url("/qcow2")}});
    cloud.post("member", &format!("/v2/images/{lie}/import"), body).await.expect(202);
    let again = ended(&cloud, &lie).await;
    assert_eq!((&again["status"], &again["os_glance_failed_import"]), (&json!("active"), &json!("")));
    cloud.wait_for_files(&[&id, &lie]).await;
}

#[tokio::test]
async fn an_image_deleted_while_it_is_fetched_leaves_nothing() {
    let (cloud, web) = (Cloud::start_with(near).await, Web::start().await);
    let id = import(&cloud, "raw", &web.url("/slow")).await;
    let shown = cloud.show("member", &id).await;
    assert_eq!((&shown["status"], &shown["os_glance_importing_to_stores"]), (&json!("importing"), &json!("local")));
    wait_for("the first bytes", || async { if web.asked() > 0 { Ok(()) } else { Err("nothing asked".into()) } }).await;
    cloud
        .patch(
            "member",
            &format!("/v2/images/{id}"),
            json!([{"op": "add", "path": "/os_glance_failed_import", "value": "x"}]),
        )
        .await
        .refused(403);
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn a_download_that_dies_at_any_point_ends_as_if_it_had_not() {
    let web = Web::start().await;
    for (path, wanted) in [("/qcow2", "active"), ("/absent", "queued")] {
        let mut points = 0;
        for n in 1.. {
            let faults = Faults::dying_at(n);
            let cloud = Cloud::start_dying(tempfile::tempdir().unwrap(), faults.clone(), near).await;
            let id = import(&cloud, "qcow2", &web.url(path)).await;
            wait_for("the end or the death of the download", || async {
                let status = cloud.show("member", &id).await["status"].clone();
                if faults.dead() || status == wanted { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            let died = faults.dead();
            let cloud = Cloud::start_in(cloud.crash().await, near).await;
            assert_eq!(ended(&cloud, &id).await["status"], wanted, "died at point {n}");
            let left: &[&str] = if wanted == "active" { &[&id] } else { &[] };
            cloud.wait_for_files(left).await;
            if !died {
                points = n - 1;
                break;
            }
        }
        assert!(points > 3, "the operation has more steps than {points}");
    }
}

#[tokio::test]
async fn the_operator_switches_downloads_off() {
    let cloud = Cloud::start_with(|options| options.downloads = None).await;
    let methods = cloud.get("reader", "/v2/info/import").await.expect(200);
    assert_eq!(methods["import-methods"]["value"], json!(["glance-direct", "copy-image"]));
    let id = cloud.create_raw("member").await;
    let body = json!({"method": {"name": "web-download", "uri": "http://example.org/x"}});
    let text = cloud.post("member", &format!("/v2/images/{id}/import"), body).await.refused(400);
    assert!(text.contains("switched it off"), "{text}");
}

#[tokio::test]
async fn copying_to_the_one_store_says_that_the_image_is_there_already() {
    let cloud = Cloud::start().await;
    let id = cloud.create_with_data("member", b"x").await;
    let import = format!("/v2/images/{id}/import");
    let copy = json!({"method": {"name": "copy-image"}, "stores": ["local"]});
    cloud.post("member", &import, copy.clone()).await.refused(403);
    assert!(cloud.post("admin", &import, copy.clone()).await.refused(400).contains("already present at store 'local'"));
    cloud.post("admin", &import, json!({"method": {"name": "copy-image"}, "all_stores": true})).await.expect(202);
    let queued = cloud.create_raw("member").await;
    cloud.post("admin", &format!("/v2/images/{queued}/import"), copy).await.refused(409);
    let glance = json!({"method": {"name": "glance-download", "glance_image_id": id, "glance_region": "x"}});
    let text = cloud.post("member", &format!("/v2/images/{queued}/import"), glance).await.refused(400);
    assert!(text.contains("no other Image service"), "{text}");
}

#[tokio::test]
async fn an_administrators_task_makes_an_image_of_the_web_and_all_tasks_can_be_looked_at() {
    let (cloud, web) = (Cloud::start_with(near).await, Web::start().await);
    let body = json!({"type": "import", "input": {
        "import_from": web.url("/qcow2"), "import_from_format": "qcow2",
        "image_properties": {"name": "n", "disk_format": "qcow2", "container_format": "bare", "visibility": "public"},
    }});
    cloud.post("member", "/v2/tasks", body.clone()).await.refused(403);
    cloud.get("member", "/v2/tasks").await.refused(403);
    let made = cloud.post("admin", "/v2/tasks", body).await.expect(201);
    assert_eq!((&made["type"], &made["status"]), (&json!("import"), &json!("processing")));
    let path = made["self"].as_str().unwrap().to_owned();
    let done = wait_for("the task", || async {
        let task = cloud.get("admin", &path).await.expect(200);
        if task["status"] == "success" { Ok(task) } else { Err(task.to_string()) }
    })
    .await;
    let image = cloud.show("admin", done["result"]["image_id"].as_str().unwrap()).await;
    assert_eq!(
        (&image["status"], &image["name"], &image["visibility"]),
        (&json!("active"), &json!("n"), &json!("public"))
    );
    let failed = import(&cloud, "raw", &web.url("/absent")).await;
    failure(&cloud, &failed).await;
    let list = cloud.get("admin", "/v2/tasks?limit=1").await.expect(200);
    assert_eq!((&list["tasks"][0]["image_id"], list["tasks"][0].get("input")), (&json!(failed), None));
    let rest = cloud.get("admin", list["next"].as_str().unwrap()).await.expect(200);
    assert_eq!((&rest["tasks"][0]["id"], rest.get("next")), (&made["id"], None));
    let only = cloud.get("admin", "/v2/tasks?status=failure").await.expect(200);
    assert_eq!(only["tasks"].as_array().unwrap().len(), 1);
    for (body, reason) in [
        (json!({}), "Task type is required"),
        (json!({"type": "export", "input": {}}), "export"),
        (json!({"type": "import"}), "import_from"),
        (json!({"type": "import", "input": {"import_from": 1}}), "must be a string"),
        (
            json!({"type": "import", "input": {"import_from": "http://10.0.0.1/x", "import_from_format": "raw",
                   "image_properties": {"disk_format": "raw", "container_format": "bare"}}}),
            "does not pass filtering",
        ),
    ] {
        let text = cloud.post("admin", "/v2/tasks", body).await.refused(400);
        assert!(text.contains(reason), "{text}");
    }
    for absent in ["x", "x-1", "11111111-1111-1111-1111-111111111111-5"] {
        cloud.get("admin", &format!("/v2/tasks/{absent}")).await.refused(404);
    }
}
