//! Text for terminals: tables, spans of time, and foreign text made harmless.

/// Foreign text on one line: control characters (terminal escapes among them) become spaces.
pub fn printable(text: &str, limit_chars: usize) -> String {
    let mut shown: String =
        text.chars().take(limit_chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(limit_chars).is_some() {
        shown.push('…');
    }
    shown.trim().to_owned()
}

/// Foreign text of several lines, with every control character but newline and tab made visible.
pub fn printable_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => {}
            c if c.is_control() => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// `3d 4h`, `2h 5m`, `4m 10s`, `12s`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// `512 B`, `3.4 MiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Words on lines of at most 100 characters; the first is indented by `indent`, the others by two more.
pub fn wrapped(text: &str, indent: usize) -> String {
    const WIDTH: usize = 100;
    let mut lines = String::new();
    let mut line = " ".repeat(indent);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(indent + 2);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

/// Columns as wide as their widest cell, two spaces apart; the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Seconds in a text such as `24h`, `90m`, `7d`, `1h30m` or `45s`.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a span of time such as 24h, 90m, 7d or 1h30m");
    let mut seconds: u64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' if digits.len() < 9 => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        digits.clear();
        seconds = seconds.checked_add(count * unit).ok_or_else(wrong)?;
    }
    if text.is_empty() || !digits.is_empty() { Err(wrong()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        for (text, seconds) in [("24h", 86_400), ("90m", 5400), ("7d", 604_800), ("1h30m", 5400), ("45s", 45)]
        {
            assert_eq!(parse_span(text), Ok(seconds));
        }
        for text in ["", "24", "h", "1w", "-1h", "1.5h", "99999999999h", "1h 30m", "٣h"] {
            assert!(parse_span(text).is_err(), "{text:?}");
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn terminal_escapes_do_not_pass() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc", 100), "a [31mb  c");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable_lines("a\u{1b}]0;x\u{7}\r\nb\tc"), "a\u{fffd}]0;x\u{fffd}\nb\tc");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["node-10.0.0.4".into(), "running".into()], vec!["é".into(), String::new()]];
        assert_eq!(table(&["NODE", "PHASE"], &rows), "NODE           PHASE\nnode-10.0.0.4  running\né\n");
    }
}
