//! From what is known to what is seen: a pure function of [`Ui`], for any size from 20 x 8 up.
//!
//! Everything that comes from outside goes through [`plain`]: no byte of others reaches the terminal as it came.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::form::{Field, Form};
use super::install::Install;
use super::model::{Facts, Health, NicFacts, Word};
use super::ui::{Forget, Page, Power, Ui};
use super::{letters, qr};
use crate::network::CONFIRM_WITHIN_S;
use crate::plain;

const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const PLAIN: Style = Style::new();

fn alarm(word: Word) -> Style {
    Style::new().add_modifier(Modifier::BOLD).fg(match word {
        Word::Ready => Color::Green,
        Word::Starting | Word::Updating | Word::Unclaimed => Color::Yellow,
        Word::Degraded => Color::Magenta,
        Word::Failed | Word::Stopped => Color::Red,
    })
}

/// Lines with how they look.
type Lines = Vec<(String, Style)>;

/// Draws everything.
pub fn draw(ui: &Ui, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width < 20 || area.height < 8 {
        put(buffer, area.x, area.y, area.width, ui.facts.word().text(), STRONG);
        return;
    }
    title(ui, buffer);
    let inner = Rect { y: area.y + 1, height: area.height - 2, ..area };
    let inner = banner(ui, buffer, inner);
    match &ui.page {
        Page::Status => status(ui, buffer, inner),
        Page::Network(form) => network(form, ui, buffer, inner),
        Page::Logs(lines) => logs(lines, ui, buffer, inner),
        Page::Install(page) => install(page, buffer, inner),
        Page::Reset { what, typed } => reset(*what, typed, buffer, inner),
        Page::Power { how, is_chosen } => power(*how, *is_chosen, buffer, inner),
    }
    foot(ui, buffer);
}

fn put(buffer: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    if y < buffer.area.bottom() && x < buffer.area.right() {
        buffer.set_stringn(x, y, plain(text), width.into(), style);
    }
}

fn bar(buffer: &mut Buffer, y: u16, text: &str, style: Style) {
    let (x, width) = (buffer.area.x, buffer.area.width);
    let count = text.chars().count();
    put(buffer, x, y, width, &format!("{text}{}", " ".repeat(usize::from(width).saturating_sub(count))), style);
}

fn title(ui: &Ui, buffer: &mut Buffer) {
    let left = format!(" Solostack {}", plain(&ui.facts.version));
    let right = format!("up {} ", uptime(ui.facts.uptime_min));
    let gap = usize::from(buffer.area.width).saturating_sub(left.chars().count() + right.chars().count());
    bar(buffer, buffer.area.y, &format!("{left}{}{right}", " ".repeat(gap)), BAR);
}

fn uptime(minutes: u64) -> String {
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Above the foot: what waits, what was done. What is left for the page.
fn banner(ui: &Ui, buffer: &mut Buffer, area: Rect) -> Rect {
    let mut lines = Lines::new();
    if let Some(left) = ui.facts.network_waits_s {
        let keys = if ui.view_only { "" } else { "  K keep them   U undo" };
        let text = format!(" New network settings: the old ones return in {left} s.{keys}");
        lines.push((text, Style::new().fg(Color::Black).bg(Color::Yellow)));
    }
    if ui.is_busy {
        lines.push((" one moment ...".into(), STRONG));
    } else if let Some(message) = &ui.message {
        let style = if message.is_bad { STRONG.fg(Color::Red) } else { STRONG.fg(Color::Green) };
        let text = wrap(&message.text, usize::from(area.width) - 2);
        lines.extend(text.into_iter().take(3).map(|line| (format!(" {line}"), style)));
    }
    let count = u16::try_from(lines.len()).unwrap_or(0).min(area.height / 2);
    let top = area.bottom() - count;
    for (y, (text, style)) in (top..area.bottom()).zip(lines) {
        bar(buffer, y, &text, style);
    }
    Rect { height: area.height - count, ..area }
}

fn foot(ui: &Ui, buffer: &mut Buffer) {
    let keys = match &ui.page {
        Page::Status if ui.view_only => " L log   arrows more",
        Page::Status if ui.facts.is_live => " I install to a disk   N network   L log   P power   arrows more",
        Page::Status => " N network   L log   R reset   P power   arrows more",
        Page::Network(_) => " Tab next   Left/Right choose   Enter on Apply   Esc back",
        Page::Logs(_) => " arrows, PgUp, PgDn   R read again   Esc back",
        Page::Install(_) => " Up/Down choose   Enter do it   Esc back",
        Page::Reset { .. } => " Up/Down choose   Enter do it   Esc back",
        Page::Power { is_chosen: true, .. } => " Y yes   Esc back",
        Page::Power { .. } => " Up/Down choose   Enter   Esc back",
    };
    bar(buffer, buffer.area.bottom() - 1, keys, BAR);
}

fn status(ui: &Ui, buffer: &mut Buffer, area: Rect) {
    let facts = &ui.facts;
    let code = facts.urls.first().and_then(|url| qr::rows(url)).unwrap_or_default();
    let code_width = u16::try_from(code.first().map_or(0, |row| row.chars().count())).unwrap_or(0);
    // A code that does not fit whole helps nobody.
    let has_code = code_width > 0 && area.width >= code_width + 44 && usize::from(area.height) >= code.len() + 3;
    let (code, code_width) = if has_code { (code, code_width + 1) } else { (Vec::new(), 0) };
    let light = Style::new().fg(Color::White).bg(Color::Black);
    for (y, row) in (area.y..).zip(&code) {
        put(buffer, area.right() - code_width, y, code_width, row, light);
    }

    let width = area.width - code_width - 2;
    let mut left: Lines = Vec::new();
    let word = facts.word();
    left.push((String::new(), PLAIN));
    if width >= 46 && area.height >= 14 {
        left.extend(letters::rows(word.text()).into_iter().map(|row| (row, alarm(word))));
    } else {
        left.push((word.text().into(), alarm(word)));
    }
    left.extend(wrap(&facts.sentence(), width.into()).into_iter().take(2).map(|line| (line, PLAIN)));
    left.push((String::new(), PLAIN));
    if facts.urls.is_empty() {
        left.push(("no address yet".into(), STRONG));
    }
    left.extend(facts.urls.iter().take(3).map(|url| (url.clone(), STRONG)));
    if let Some(claim) = &facts.claim {
        left.push((format!("Code to take the cloud over: {claim}"), STRONG.fg(Color::Yellow)));
    }
    if let Some(fingerprint) = &facts.fingerprint {
        left.push(("SHA-256 of its authority, as your browser shows it:".into(), PLAIN));
        let half = fingerprint.len().min(48);
        let (first, second) = fingerprint.split_at_checked(half).unwrap_or((fingerprint, ""));
        left.push((first.trim_end_matches(':').into(), PLAIN));
        left.push((second.into(), PLAIN));
    }
    let rows = left.len().max(code.len());
    for (y, (text, style)) in (area.y..area.bottom()).zip(&left) {
        put(buffer, area.x + 1, y, width, text, *style);
    }
    let used = u16::try_from(rows).unwrap_or(u16::MAX).min(area.height);
    let below = Rect { y: area.y + used, height: area.height - used, ..area };
    scrolled(&details(facts, usize::from(area.width) - 2), ui.scroll, buffer, below);
}

/// As many lines as there is room for, from `scroll` on; the last says how many are left.
fn scrolled(lines: &Lines, scroll: usize, buffer: &mut Buffer, area: Rect) {
    let room = usize::from(area.height);
    let from = scroll.min(lines.len().saturating_sub(room));
    let left = lines.len().saturating_sub(from + room);
    for (index, (y, (text, style))) in (area.y..area.bottom()).zip(lines.iter().skip(from)).enumerate() {
        if left > 0 && index + 1 == room {
            put(buffer, area.x + 1, y, area.width - 1, &format!("... {} more lines: arrow down", left + 1), PLAIN);
        } else {
            put(buffer, area.x + 1, y, area.width - 1, text, *style);
        }
    }
}

fn details(facts: &Facts, width: usize) -> Lines {
    let mut lines = Lines::new();
    let mut say = |text: &str, style: Style, indent: &str| {
        let mut pieces = wrap(text, width.saturating_sub(indent.len())).into_iter();
        lines.extend(pieces.next().map(|first| (first, style)));
        lines.extend(pieces.map(|rest| (format!("{indent}{rest}"), style)));
    };
    if facts.nics.is_empty() {
        say("no wired network card was found", STRONG, "");
    }
    if facts.is_live {
        say("! everything is in memory, and forgotten at power off: press I to install to a disk", STRONG, "  ");
    }
    for nic in &facts.nics {
        say(&nic_line(nic), PLAIN, "    ");
        if nic.has_no_dhcp {
            say(&no_dhcp(nic), STRONG, "    ");
        }
    }
    if !facts.nics.is_empty() && facts.nics.iter().all(|nic| !nic.nic.has_link) {
        say("no network card has a link: plug in a cable", STRONG, "");
    }
    for part in &facts.parts {
        let style = STRONG.fg(if part.health == Health::Failed { Color::Red } else { Color::Magenta });
        let advice = part.advice.as_ref().map(|advice| format!(" -> {advice}")).unwrap_or_default();
        say(&format!("! {}: {}{advice}", part.name, part.reason), style, "  ");
    }
    if facts.clock_is_synchronised == Some(false) {
        say("! clock: not synchronised with a time server; certificates and tokens depend on it", STRONG, "  ");
    }
    if let Some(note) = &facts.network_note {
        say(&format!("! network: {note}"), STRONG, "  ");
    }
    if let Some(update) = &facts.update {
        match update.state.as_str() {
            "returned" => {
                let text = format!(
                    "! update: version {} did not prove itself and {} returned: {} ({})",
                    update.version, update.from, update.reason, update.at
                );
                say(&text, STRONG, "  ");
            }
            "good" if !update.from.is_empty() => {
                say(&format!("updated from {} to {} ({})", update.from, update.version, update.at), PLAIN, "  ");
            }
            _ => (),
        }
    }
    if let Some(hypervisor) = &facts.hypervisor {
        say(&format!("servers run by {hypervisor}"), PLAIN, "  ");
    }
    lines
}

fn nic_line(facts: &NicFacts) -> String {
    let nic = &facts.nic;
    let link = match (nic.has_link, nic.speed_mbps) {
        (false, _) => "no link".to_owned(),
        (true, None) => "link".to_owned(),
        (true, Some(speed)) if speed >= 1000 && speed % 1000 == 0 => format!("{} Gbit/s", speed / 1000),
        (true, Some(speed)) => format!("{speed} Mbit/s"),
    };
    let member = nic.bond.as_ref().map(|bond| format!(" in {bond}")).unwrap_or_default();
    let mut addresses: Vec<_> = nic.addresses.iter().collect();
    addresses.sort_by_key(|net| (crate::network::is_link_local(net.addr()), net.addr().is_ipv6()));
    let addresses: Vec<String> = addresses.into_iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(" ") };
    format!("{:<10} {}  {:<8}{member}  {addresses}", nic.name, nic.mac_text(), link)
}

fn no_dhcp(facts: &NicFacts) -> String {
    let own = facts.nic.addresses.iter().find(|net| net.addr().is_ipv4()).map(|net| net.addr());
    let open = own.map(|address| format!("https://{address}/ or ")).unwrap_or_default();
    format!(
        "    no DHCP server answered on {}: connect a computer by a cable and open {open}https://solostack.local/, or press N \
         and give it a fixed address",
        facts.nic.name
    )
}

fn network(form: &Form, ui: &Ui, buffer: &mut Buffer, area: Rect) {
    let mut lines: Lines = vec![(String::new(), PLAIN), ("Network settings".into(), STRONG), (String::new(), PLAIN)];
    let nic = form.nics.get(form.nic).map_or_else(
        || "none that could be set".to_owned(),
        |nic| format!("{} {} {}", nic.name, nic.mac_text(), if nic.has_link { "" } else { "(no link)" }),
    );
    let kind = if form.fixed { "fixed addresses" } else { "DHCP" };
    let example = |text: &str, example: &str| if text.is_empty() { example.to_owned() } else { String::new() };
    let rows = [
        (Field::Nic, "Network card", format!("< {} >", nic.trim_end()), String::new()),
        (Field::Kind, "Addresses by", format!("< {kind} >"), String::new()),
        (Field::Addresses, "Addresses", format!("[{}]", form.addresses), example(&form.addresses, "192.0.2.10/24")),
        (Field::Gateways, "Gateway", format!("[{}]", form.gateways), example(&form.gateways, "192.0.2.1")),
        (Field::Dns, "Name servers", format!("[{}]", form.dns), example(&form.dns, "those that DHCP tells")),
        (Field::Apply, "", "( Apply )".to_owned(), String::new()),
    ];
    let mut cursor = None;
    for (field, label, value, example) in rows {
        if !form.has(field) {
            continue;
        }
        if field == Field::Apply {
            lines.push((String::new(), PLAIN));
        }
        if field == form.at {
            cursor = Some(lines.len());
        }
        let example = if example.is_empty() { String::new() } else { format!("  as in {example}") };
        let example = if field == Field::Dns { example.replace("as in ", "") } else { example };
        lines.push((format!("{label:<14}{value}{example}"), PLAIN));
    }
    lines.push((String::new(), PLAIN));
    let width = usize::from(area.width) - 2;
    if form.problems.is_empty() {
        let more = ui.config.network_settings.bonds.len() + ui.config.network_settings.vlans.len();
        let note = if more > 0 { "Bonds and VLANs stay as they are in solostack.toml. " } else { "" };
        let text = format!(
            "{note}After Apply, confirm on this screen within {CONFIRM_WITHIN_S} s: otherwise the old settings return by \
             themselves."
        );
        lines.extend(wrap(&text, width).into_iter().map(|line| (line, PLAIN)));
    }
    for problem in &form.problems {
        let problem = problem.replace("network_settings.", "");
        lines.extend(wrap(&problem, width).into_iter().map(|line| (line, STRONG.fg(Color::Red))));
    }
    for (index, (y, (text, style))) in (area.y..area.bottom()).zip(&lines).enumerate() {
        let style = if cursor == Some(index) { style.add_modifier(Modifier::REVERSED) } else { *style };
        put(buffer, area.x + 1, y, area.width - 1, text, style);
    }
}

fn logs(lines: &[String], ui: &Ui, buffer: &mut Buffer, area: Rect) {
    let room = usize::from(area.height);
    let to = lines.len().saturating_sub(ui.scroll);
    let from = to.saturating_sub(room);
    for (y, line) in (area.y..area.bottom()).zip(&lines[from..to]) {
        put(buffer, area.x, y, area.width, line, PLAIN);
    }
    if lines.is_empty() && !ui.is_busy && ui.message.is_none() {
        put(buffer, area.x + 1, area.y + 1, area.width - 1, "the log is empty", PLAIN);
    }
}

fn choice(is_chosen: bool, text: &str) -> (String, Style) {
    if is_chosen {
        (format!("> {text}"), STRONG.add_modifier(Modifier::REVERSED))
    } else {
        (format!("  {text}"), PLAIN)
    }
}

fn reset(what: Forget, typed: &str, buffer: &mut Buffer, area: Rect) {
    let consequence = match what {
        Forget::Settings => {
            "The configuration goes back to that of a new machine: every wired card uses DHCP. Users, images and servers \
             stay. The machine restarts."
        }
        Forget::Everything => {
            "Every user, image, server, disk and certificate is erased, and nobody can bring them back. The machine \
             restarts as a new one."
        }
    };
    let width = usize::from(area.width) - 2;
    let mut lines: Lines = vec![
        (String::new(), PLAIN),
        ("Factory reset".into(), STRONG),
        (String::new(), PLAIN),
        choice(what == Forget::Settings, "the settings"),
        choice(what == Forget::Everything, "everything"),
        (String::new(), PLAIN),
    ];
    lines.extend(wrap(consequence, width).into_iter().map(|line| (line, STRONG)));
    lines.push((String::new(), PLAIN));
    lines.push((format!("To do it, type \"{}\" and press Enter: {typed}_", what.word()), PLAIN));
    paint(&lines, buffer, area);
}

fn install(page: &Install, buffer: &mut Buffer, area: Rect) {
    let width = usize::from(area.width) - 2;
    let mut lines: Lines =
        vec![(String::new(), PLAIN), ("Install to a disk of this machine".into(), STRONG), (String::new(), PLAIN)];
    let offers = page.offers.as_deref().unwrap_or_default();
    for (index, offer) in offers.iter().enumerate() {
        let why = offer.reason.as_ref().map(|reason| format!(" (not taken: {reason})")).unwrap_or_default();
        lines.push(choice(index == page.at, &format!("{}{why}", offer.line)));
    }
    match (page.chosen(), &page.offers) {
        (Some(offer), _) => {
            let text = format!(
                "Everything on {} will be lost. It becomes a new machine: nothing of what was done since the start from \
                 the medium goes along.",
                offer.name
            );
            lines.push((String::new(), PLAIN));
            lines.extend(wrap(&text, width).into_iter().map(|line| (line, STRONG)));
            lines.push((String::new(), PLAIN));
            lines.push((format!("To do it, type \"{}\" and press Enter: {}_", offer.name, page.typed), PLAIN));
        }
        (None, Some(_)) => lines.push(("this machine has no disk besides the medium that it runs from".into(), STRONG)),
        (None, None) => (),
    }
    paint(&lines, buffer, area);
}

fn power(how: Power, is_chosen: bool, buffer: &mut Buffer, area: Rect) {
    let mut lines: Lines = vec![
        (String::new(), PLAIN),
        ("Power".into(), STRONG),
        (String::new(), PLAIN),
        choice(how == Power::Restart, "restart the machine"),
        choice(how == Power::Off, "power it off"),
        (String::new(), PLAIN),
    ];
    if is_chosen {
        let what = if how == Power::Restart { "restart" } else { "power off" };
        lines.push((format!("Servers that run now run again after the next start. Press Y to {what}."), STRONG));
    }
    paint(&lines, buffer, area);
}

fn paint(lines: &Lines, buffer: &mut Buffer, area: Rect) {
    for (y, (text, style)) in (area.y..area.bottom()).zip(lines) {
        put(buffer, area.x + 1, y, area.width - 1, text, *style);
    }
}

/// Lines of at most `width` characters, broken between words where that is possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let indent: String = text.chars().take_while(|c| *c == ' ').collect();
    let mut lines = vec![indent];
    let mut is_first = true;
    for word in plain(text).split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            let used = line.chars().count();
            let gap = usize::from(!is_first && used > 0);
            if used + gap + word.len() <= width {
                line.push_str(&" ".repeat(gap));
                line.extend(word.drain(..));
            } else if word.len() > width && used + gap < width {
                line.push_str(&" ".repeat(gap));
                line.extend(word.drain(..width - used - gap));
            } else {
                lines.push(String::new());
            }
            is_first = lines.last().is_some_and(String::is_empty);
        }
    }
    lines
}
