//! `/servers/new`: a server on one page. What it will take of the quota, what is short, and the same as a command and as a
//! Terraform block are shown while the form is filled in, or after a look without script.

use askama::Template;
use axum::{extract::Query, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    choices::Choices,
    quota::{self, Gauge, Size},
};
use crate::{
    api::{Service, encoded},
    echo::{Block, Command, Echo, pair},
    failure::{Failure, Result},
    form::{Fields, WithFiles},
    frame::Frame,
    session::Flash,
    show,
    visit::Visit,
    words::{Words, t},
};

/// What other pages know already.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    image: String,
    #[serde(default)]
    flavor: String,
    #[serde(default)]
    network: String,
    #[serde(default)]
    key: String,
}

/// The form as it was filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    name: String,
    image: String,
    flavor: String,
    key: String,
    networks: Vec<String>,
    ports: Vec<String>,
    no_network: bool,
    security_groups: Vec<String>,
    count: String,
    user_data: String,
    config_drive: bool,
    metadata: Vec<(String, String)>,
    tags: String,
    zone: String,
    group: String,
    description: String,
    lock: bool,
}

impl Form {
    fn of(fields: &Fields) -> Self {
        let all = |name: &str| fields.all(name).into_iter().map(str::to_owned).collect();
        let file = fields.raw("user_data_file");
        // Browsers send the lines of a text area with CR LF, and a script that begins with `#!/bin/sh\r` does not run.
        let typed = fields.raw("user_data").replace("\r\n", "\n");
        Self {
            name: fields.get("name").to_owned(),
            image: fields.get("image").to_owned(),
            flavor: fields.get("flavor").to_owned(),
            key: fields.get("key").to_owned(),
            networks: all("network"),
            ports: all("port"),
            no_network: fields.on("no_network"),
            security_groups: all("security_group"),
            count: fields.get("count").to_owned(),
            user_data: if file.is_empty() { typed } else { file.to_owned() },
            config_drive: fields.on("config_drive"),
            metadata: fields.table("key_of", "value_of"),
            tags: fields.get("tags").to_owned(),
            zone: fields.get("zone").to_owned(),
            group: fields.get("group").to_owned(),
            description: fields.get("description").to_owned(),
            lock: fields.on("lock"),
        }
    }

    /// Before anybody has chosen: what is given, or the only one there is, or the smallest.
    fn first(choices: &Choices, given: Given) -> Self {
        let image = choices.images.first().filter(|_| choices.images.len() == 1);
        let flavor = choices.flavors.first();
        let key = choices.keypairs.first();
        let some = |given: String, own: Option<&String>| {
            if given.is_empty() { own.cloned().unwrap_or_default() } else { given }
        };
        // Where there is one network, Compute finds it; of several, one's own.
        let own = choices.networks.iter().find(|network| !network.shared).or(choices.networks.first());
        let own = own.filter(|_| choices.networks.len() > 1);
        let network = some(given.network, own.map(|network| &network.id));
        Self {
            image: some(given.image, image.map(|image| &image.id)),
            flavor: some(given.flavor, flavor.map(|flavor| &flavor.id)),
            key: some(given.key, key.map(|key| &key.name)),
            networks: Some(network).filter(|network| !network.is_empty()).into_iter().collect(),
            count: "1".to_owned(),
            ..Self::default()
        }
    }

    fn count(&self) -> Option<i64> {
        if self.count.is_empty() { Some(1) } else { self.count.parse().ok().filter(|count| (1..=1000).contains(count)) }
    }

    fn tags(&self) -> Vec<&str> {
        self.tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect()
    }

    /// Rows to fill in: those that are, and some more.
    fn metadata_rows(&self) -> Vec<(String, String)> {
        let empty = std::iter::repeat_n((String::new(), String::new()), 2);
        self.metadata.iter().cloned().chain(empty).collect()
    }

    /// What Compute would not say as clearly, or only after the fact.
    fn mistakes(&self, words: Words) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (empty, text) in [
            (self.name.is_empty(), words.t("Give the server a name.")),
            (self.image.is_empty(), words.t("Choose an image.")),
            (self.flavor.is_empty(), words.t("Choose a flavor.")),
            (self.count().is_none(), words.t("The number of servers is 1 to 1000.")),
            (
                self.lock && self.count() != Some(1),
                words.t("One server can be locked as it is made; lock several in their table."),
            ),
            (
                self.no_network && !(self.networks.is_empty() && self.ports.is_empty()),
                words.t("Choose networks, or none."),
            ),
        ] {
            if empty {
                mistakes.push(text.to_owned());
            }
        }
        mistakes
    }

    fn body(&self) -> Value {
        let mut server = Map::new();
        let mut put = |name: &str, value: Value| server.insert(name.to_owned(), value);
        put("name", json!(self.name));
        put("imageRef", json!(self.image));
        put("flavorRef", json!(self.flavor));
        let mut networks: Vec<Value> = self.networks.iter().map(|id| json!({ "uuid": id })).collect();
        networks.extend(self.ports.iter().map(|id| json!({ "port": id })));
        put(
            "networks",
            match (self.no_network, networks.is_empty()) {
                (true, _) => json!("none"),
                (false, true) => json!("auto"),
                (false, false) => json!(networks),
            },
        );
        for (name, value) in
            [("key_name", &self.key), ("availability_zone", &self.zone), ("description", &self.description)]
        {
            if !value.is_empty() {
                put(name, json!(value));
            }
        }
        if !self.security_groups.is_empty() {
            put("security_groups", self.security_groups.iter().map(|name| json!({ "name": name })).collect());
        }
        let count = self.count().unwrap_or(1);
        if count != 1 {
            put("min_count", json!(count));
            put("max_count", json!(count));
        }
        if !self.user_data.is_empty() {
            put("user_data", json!(STANDARD.encode(&self.user_data)));
        }
        if self.config_drive {
            put("config_drive", json!(true));
        }
        if !self.metadata.is_empty() {
            put(
                "metadata",
                self.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>().into(),
            );
        }
        if !self.tags().is_empty() {
            put("tags", json!(self.tags()));
        }
        let mut body = json!({ "server": server });
        if !self.group.is_empty() {
            body["os:scheduler_hints"] = json!({ "group": self.group });
        }
        body
    }

    fn echo(&self, choices: &Choices) -> Echo {
        let image = choices.image(&self.image).map_or(self.image.as_str(), super::choices::Image::name);
        let flavor = choices.flavor(&self.flavor).map_or(self.flavor.as_str(), |flavor| flavor.name.as_str());
        let automatic = self.networks.is_empty() && self.ports.is_empty() && !self.no_network;
        let count = self.count().unwrap_or(1);
        let number = count.to_string();
        let many = if count == 1 { "" } else { &number };
        let mut command = Command::new("server create").option_if("--image", image).option_if("--flavor", flavor);
        command = command.option_if("--key-name", &self.key);
        command = command.flag_if(self.no_network, "--no-network").flag_if(automatic, "--auto-network");
        for (name, values) in
            [("--network", &self.networks), ("--port", &self.ports), ("--security-group", &self.security_groups)]
        {
            command = values.iter().fold(command, |command, value| command.option(name, value));
        }
        command = command.option_if("--user-data", if self.user_data.is_empty() { "" } else { "user-data.txt" });
        command = command.flag_if(self.config_drive, "--use-config-drive");
        for (key, value) in &self.metadata {
            command = command.option("--property", &pair(key, value));
        }
        command = self.tags().into_iter().fold(command, |command, tag| command.option("--tag", tag));
        command = command.option_if("--availability-zone", &self.zone).option_if("--server-group", &self.group);
        command =
            command.option_if("--description", &self.description).option_if("--min", many).option_if("--max", many);
        let mut text = command.argument(&self.name).to_string();
        if self.lock {
            text.push('\n');
            text.push_str(&Command::new("server lock").argument(&self.name).to_string());
        }

        let mut block = Block::resource("openstack_compute_instance_v2", &self.name);
        if count != 1 {
            block = block.number("count", count);
        }
        block = block.text("name", &self.name).text_if("image_id", &self.image).text_if("flavor_name", flavor);
        block = block.text_if("key_pair", &self.key).list("security_groups", &self.security_groups);
        if !self.user_data.is_empty() {
            block = block.expression("user_data", "file(\"user-data.txt\")");
        }
        if self.config_drive {
            block = block.boolean("config_drive", true);
        }
        block =
            block.text_if("availability_zone", &self.zone).list("tags", &self.tags()).map("metadata", &self.metadata);
        if self.no_network {
            block = block.text("network_mode", "none");
        } else if automatic {
            block = block.text("network_mode", "auto");
        }
        for id in &self.networks {
            block = block.block(&Block::inner("network").text("uuid", id));
        }
        for id in &self.ports {
            block = block.block(&Block::inner("network").text("port", id));
        }
        if !self.group.is_empty() {
            block = block.block(&Block::inner("scheduler_hints").text("group", &self.group));
        }
        Echo { command: text, terraform: block.to_string() }
    }
}

/// What is beside the form.
struct Outlook {
    gauges: Vec<Gauge>,
    problems: Vec<String>,
    echo: Echo,
}

impl Outlook {
    fn of(words: Words, choices: &Choices, form: &Form) -> Self {
        let flavor = choices.flavor(&form.flavor);
        let size = flavor.map_or(Size::default(), super::choices::Flavor::size);
        let gauges = quota::gauges(words, &choices.limits, size, form.count().unwrap_or(1));
        let mut problems = quota::shortages(words, &gauges);
        if let Some((image, flavor)) = choices.image(&form.image).zip(flavor) {
            if image.min_ram > flavor.ram {
                problems.push(words.fill(
                    t("The image asks for {} of memory, the flavor has {}."),
                    &[&show::mib(image.min_ram), &show::mib(flavor.ram)],
                ));
            }
            // A flavor without a disk takes that of the image.
            let needed = image.virtual_size.map_or(0, |bytes| (bytes + (1 << 30) - 1) >> 30).max(image.min_disk);
            if flavor.disk > 0 && needed > flavor.disk {
                problems.push(
                    words.fill("The image needs a disk of {} GiB, the flavor has {} GiB.", &[&needed, &flavor.disk]),
                );
            }
        }
        Self { gauges, problems, echo: form.echo(choices) }
    }
}

#[derive(Template)]
#[template(path = "servers/launch.html")]
struct Page {
    frame: Frame,
    form: Form,
    choices: Choices,
    outlook: Outlook,
}

#[derive(Template)]
#[template(path = "servers/outlook.html")]
struct Part {
    frame: Frame,
    outlook: Outlook,
}

fn frame(visit: &Visit) -> Frame {
    visit.frame("/servers", visit.words().t("Launch a server"))
}

fn page(visit: &Visit, choices: Choices, form: Form, frame: Frame) -> Page {
    let outlook = Outlook::of(visit.words(), &choices, &form);
    Page { frame, form, choices, outlook }
}

/// Servers are in projects.
fn check_place(visit: &Visit) -> Result<()> {
    if visit.session()?.project_id().is_some() {
        return Ok(());
    }
    Err(Failure::bad_request(visit.words().t("A server is in a project: choose one first, at the top.")))
}

/// `GET /servers/new`.
pub(super) async fn show(visit: Visit, Query(given): Query<Given>) -> Result<Response> {
    check_place(&visit)?;
    let choices = Choices::of(&visit).await?;
    let form = Form::first(&choices, given);
    visit.page(&page(&visit, choices, form, frame(&visit)))
}

/// `POST /servers/new/outlook`: what is beside the form, for a form that is being filled in.
pub(super) async fn outlook(visit: Visit, WithFiles(fields): WithFiles) -> Result<Response> {
    check_place(&visit)?;
    let choices = Choices::of(&visit).await?;
    let outlook = Outlook::of(visit.words(), &choices, &Form::of(&fields));
    visit.page(&Part { frame: frame(&visit), outlook })
}

/// `POST /servers/new`: launches, or (`look`) shows what it would do.
pub(super) async fn launch(visit: Visit, WithFiles(fields): WithFiles) -> Result<Response> {
    check_place(&visit)?;
    let (form, words) = (Form::of(&fields), visit.words());
    if fields.on("look") {
        let choices = Choices::of(&visit).await?;
        return visit.page(&page(&visit, choices, form, frame(&visit)));
    }
    let mistakes = form.mistakes(words);
    let made = if mistakes.is_empty() {
        visit.api.post(Service::Compute, "/servers", &form.body()).await
    } else {
        Err(Failure::bad_request(mistakes.join(" ")))
    };
    let made = match made {
        Ok(made) => made,
        Err(failure) if failure.is_users() => {
            let frame = frame(&visit).with_problem(&failure);
            let choices = Choices::of(&visit).await?;
            return visit.again(&failure, &page(&visit, choices, form, frame));
        }
        Err(failure) => return Err(failure),
    };
    let id = made["server"]["id"].as_str().unwrap_or_default();
    let mut rows = Vec::new();
    if form.lock {
        let path = format!("/servers/{}/action", encoded(id));
        match visit.api.post(Service::Compute, &path, &json!({"lock": null})).await {
            Ok(_) => {}
            Err(failure) if failure.is_users() => rows.push(failure.line()),
            Err(failure) => return Err(failure),
        }
    }
    let (to, text) = match form.count() {
        None | Some(1) => (format!("/servers/{}", encoded(id)), words.t("The server is being made.").to_owned()),
        Some(count) => ("/servers".to_owned(), words.fill("{} servers are being made.", &[&count])),
    };
    visit.leave(&to, Flash { good: rows.is_empty(), text, rows }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form { name: "web".into(), image: "i".into(), flavor: "f".into(), ..Form::default() }
    }

    #[test]
    fn what_is_left_empty_is_not_sent() {
        assert_eq!(
            form().body(),
            json!({"server": {"name": "web", "imageRef": "i", "flavorRef": "f", "networks": "auto"}})
        );
        let full =
            Form { count: "3".into(), tags: "a, b,,".into(), user_data: "#!".into(), group: "g".into(), ..form() };
        let body = full.body();
        assert_eq!((&body["server"]["max_count"], &body["server"]["tags"]), (&json!(3), &json!(["a", "b"])));
        assert_eq!((&body["server"]["user_data"], &body["os:scheduler_hints"]["group"]), (&json!("IyE="), &json!("g")));
    }

    #[test]
    fn a_number_of_servers_is_one_that_compute_takes() {
        for (count, is) in [("", Some(1)), ("7", Some(7)), ("0", None), ("1001", None), ("x", None), ("-1", None)] {
            assert_eq!(Form { count: count.into(), ..form() }.count(), is, "{count}");
        }
    }
}
