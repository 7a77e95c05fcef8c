//! Imports `wasi:http`, which is not linked. None of this code may run.
fn main() {
    println!("guest code runs");
    let request = wasip2::http::types::OutgoingRequest::new(wasip2::http::types::Fields::new());
    println!("{:?}", wasip2::http::outgoing_handler::handle(request, None).is_ok());
}
