//! The numbers of a benchmark and how they are shown: least, median, most.

#[derive(Default)]
pub struct Samples {
    pub whole: Vec<f64>,
    pub agent: Vec<f64>,
    pub share: Vec<f64>,
    pub direct_uptime: Vec<f64>,
    pub floor: Vec<f64>,
    pub ratio: Vec<f64>,
}

/// One row of the table.
pub fn line(what: &str, samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let last = sorted.len().saturating_sub(1);
    format!("{what:<58} {:>8.2} {:>8.2} {:>8.2}", at(0), at(sorted.len() / 2), at(last))
}

/// NaN of nothing.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints an aim and whether it was met; a miss joins the others.
pub fn aim(missed: &mut Vec<String>, words: String, met: bool) {
    println!("{}: {words}", if met { "met" } else { "MISSED" });
    if !met {
        missed.push(words);
    }
}

/// Whatever else wants the CPUs delays most who hands over most between threads and processes.
pub fn busy() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if load > cpus as f64 {
        println!("note: the machine is busy (load {load:.1} on {cpus} CPUs): measure again when it is quiet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_sorted() {
        let row = line("x", &[3.0, 1.0, 2.0]);
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["x", "1.00", "2.00", "3.00"]);
        assert!(line("nothing", &[]).contains("NaN"));
    }
}
