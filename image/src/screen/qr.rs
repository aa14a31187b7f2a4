//! A text as a QR code, two rows of dots in each row of characters.

use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

/// Free dots around it. Four are asked for; two are enough for what reads them today, and a small screen has no more.
const MARGIN: i32 = 2;
/// 37 dots a side: more does not fit beside the text on 80 columns.
const LARGEST: u8 = 5;

/// Rows of `█`, `▀`, `▄` and spaces, where what is drawn is light. `None` when the text is too long.
#[must_use]
pub fn rows(text: &str) -> Option<Vec<String>> {
    // Scheme and host have no case, and capitals take half the room.
    let capital = text.to_ascii_uppercase();
    let short = text.strip_suffix('/').is_some_and(|text| text.matches('/').count() == 2);
    let segments = if short && QrSegment::is_alphanumeric(&capital) {
        vec![QrSegment::make_alphanumeric(&capital)]
    } else {
        vec![QrSegment::make_bytes(text.as_bytes())]
    };
    let code =
        QrCode::encode_segments_advanced(&segments, QrCodeEcc::Low, Version::MIN, Version::new(LARGEST), None, true)
            .ok()?;
    let (from, to) = (-MARGIN, code.size() + MARGIN);
    let row = |y: i32| {
        (from..to)
            .map(|x| match (!code.get_module(x, y), y + 1 >= to || !code.get_module(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect()
    };
    Some((from..to).step_by(2).map(row).collect())
}
