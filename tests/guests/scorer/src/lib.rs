//! A component for the world of an embedder (`host/strongroom/examples/wit/scoring.wit`). It counts
//! the rows that end with the secret `mark`, and prints the secret, as a careless author would.

wit_bindgen::generate!({
    path: ["../../../wit", "../../../host/strongroom/examples/wit"],
    world: "example:scoring/scorer",
    generate_all,
});

use example::scoring::rows;
use strongroom::training::secrets;

struct Scorer;

impl Guest for Scorer {
    fn score() -> Result<u64, String> {
        let mark = secrets::get_secret("mark").map_err(|error| format!("{error:?}"))?;
        println!("looking for {mark}");
        Ok(std::iter::from_fn(rows::next).filter(|row| row.ends_with(&mark)).count() as u64)
    }
}

export!(Scorer);
