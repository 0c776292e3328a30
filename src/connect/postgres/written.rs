//! Owns messages of the log as a server writes them, for tests. It does not own what is read of them.

/// Returns a row of these texts: `-` was not sent, and `null` is NULL.
pub(super) fn row(cells: &[impl AsRef<str>]) -> Vec<u8> {
    let mut bytes = (cells.len() as u16).to_be_bytes().to_vec();
    for cell in cells {
        match cell.as_ref() {
            "-" => bytes.push(b'u'),
            "null" => bytes.push(b'n'),
            text => {
                bytes.push(b't');
                bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

/// Returns the message that says the columns of a table, each by its name and the oid of its type.
pub(super) fn relation(oid: u32, schema: &str, name: &str, columns: &[(&str, u32)]) -> Vec<u8> {
    let names = format!("{schema}\0{name}\0d");
    let mut bytes = [b"R", &oid.to_be_bytes()[..], names.as_bytes()].concat();
    bytes.extend_from_slice(&(columns.len() as u16).to_be_bytes());
    for (name, kind) in columns {
        bytes.extend([&[0], name.as_bytes(), &[0], &kind.to_be_bytes(), &[0xFF; 4]].concat());
    }
    bytes
}
