//! A training component for strongroom.

use std::error::Error;

use strongroom_guest::{metrics, parameters, progress, secrets};

fn main() -> Result<(), Box<dyn Error>> {
    let password = secrets::get("db-password")?;
    // strongroom redacts the values of secrets in everything that a component prints.
    println!("db-password: {}", password.expose());

    let epochs: u64 = parameters::parse("epochs")?.unwrap_or(10);
    let mut loss = 1.0;
    for epoch in 0..epochs {
        loss *= 0.8;
        metrics::log("loss", loss, epoch)?;
        progress::report(epoch + 1, epochs, &format!("epoch {}", epoch + 1))?;
    }
    println!("loss after {epochs} epochs: {loss:.3}");
    Ok(())
}
