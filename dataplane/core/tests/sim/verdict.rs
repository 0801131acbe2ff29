//! What a long run has to show, said line by line at its end.

/// Lines and whether they hold.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Vec<(String, String, bool)>);

impl Verdicts {
    pub(crate) fn at_most(&mut self, what: &str, found: f64, most: f64) {
        self.0.push((what.to_owned(), format!("{found:.3} ≤ {most:.3}"), found <= most));
    }

    pub(crate) fn at_least(&mut self, what: &str, found: f64, least: f64) {
        self.0.push((what.to_owned(), format!("{found:.3} ≥ {least:.3}"), found >= least));
    }

    /// The same where nothing can be less than `bound`: then it is to be within 3 % of that.
    pub(crate) fn at_most_or_bound(&mut self, what: &str, found: f64, most: f64, bound: f64) {
        let how = format!("{found:.3} ≤ {most:.3}, the bound being {bound:.3}");
        self.0.push((what.to_owned(), how, found <= most || bound > most && found <= 1.03 * bound));
    }

    /// The same where nothing can be more than `bound`.
    pub(crate) fn at_least_or_bound(&mut self, what: &str, found: f64, least: f64, bound: f64) {
        let how = format!("{found:.3} ≥ {least:.3}, the bound being {bound:.3}");
        self.0.push((what.to_owned(), how, found >= least || bound < least && found >= 0.97 * bound));
    }

    /// Says all, and fails where one does not hold.
    pub(crate) fn finish(self) {
        println!("\n| must show | | |\n|---|---|---|");
        for (what, how, holds) in &self.0 {
            println!("| {what} | {how} | {} |", if *holds { "holds" } else { "MISSED" });
        }
        let missed: Vec<String> =
            self.0.iter().filter(|(.., holds)| !holds).map(|(what, how, _)| format!("{what}: not {how}")).collect();
        assert!(missed.is_empty(), "\n{}", missed.join("\n"));
    }
}
