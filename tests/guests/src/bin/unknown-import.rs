//! Imports an interface that the host does not have. None of this code may run.
wit_bindgen::generate!({
    inline: "
        package example:nowhere@1.2.3;
        interface thing { do-it: func(what: string) -> u32; }
        world wanting { import thing; }
    ",
});

fn main() {
    println!("guest code runs");
    println!("{}", example::nowhere::thing::do_it("please"));
}
