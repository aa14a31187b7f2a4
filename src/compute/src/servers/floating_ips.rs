//! `addFloatingIp` and `removeFloatingIp`, until 2.43; Network does it since. Compute API reference, "Servers - run an action".

use http::StatusCode;
use rest::{Ctx, Error, Reply, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{
    handlers::visible,
    policy,
    request::{self, bad},
};
use crate::{App, network_info};

#[derive(Deserialize)]
struct Wanted {
    address: String,
    fixed_address: Option<String>,
}

pub(crate) async fn change(app: &App, ctx: &Ctx, id: &str, argument: Value, add: bool) -> Result<Reply> {
    if ctx.since(2, 44) {
        return Err(Error::no_such_route());
    }
    let (action, rule) =
        if add { ("addFloatingIp", policy::FLOATING_IP_ADD) } else { ("removeFloatingIp", policy::FLOATING_IP_REMOVE) };
    let wanted: Wanted = request::fields(action, argument)?;
    let parsed = |field: &str, text: &str| text.parse().map_err(|_| bad(field, "it is no IP address"));
    let address = parsed("address", &wanted.address)?;
    let fixed = wanted.fixed_address.filter(|_| add).map(|text| parsed("fixed_address", &text)).transpose()?;
    let server = visible(app, ctx, id, rule).await?;
    let admin = ctx.creds()?.has_role("admin");
    let app = app.clone();
    let changer = app.clone();
    app.db
        .write(move |tx| match add {
            true => network_info::add_floating_ip(tx, &changer, &server, address, fixed, admin),
            false => network_info::remove_floating_ip(tx, &changer, &server, address, admin),
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}
