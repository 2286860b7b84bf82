//! Files that are no image that this build reads, by what they begin with.

/// What a file is, where its first bytes tell and it is nothing that is decoded here.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    if let Some(brand) = bytes.get(4..12).filter(|box_type| box_type.starts_with(b"ftyp")).map(|brand| &brand[4..]) {
        return Some(match brand {
            b"avif" | b"avis" => "an AVIF image",
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => "an HEIC image",
            b"crx " => "a camera's raw file (CR3)",
            b"jp2 " | b"jpx " => "a JPEG 2000 image",
            _ => "a film",
        });
    }
    const KINDS: [(&[u8], &str); 15] = [
        (b"\0\0\x01\0", "an icon (ICO)"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\xff\x0a", "a JPEG XL image"),
        (b"8BPS", "a Photoshop file"),
        (b"qoif", "a QOI image"),
        (b"v/1\x01", "an OpenEXR image"),
        (b"#?RADIANCE", "a Radiance HDR image"),
        (b"DDS ", "a DDS texture"),
        (b"%PDF", "a PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"version https://git-lfs", "a pointer of Git LFS and not the file (git lfs pull gets it)"),
    ];
    if let Some((_, name)) = KINDS.iter().find(|(start, _)| begins(start)) {
        return Some(name);
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text {
        _ if text.starts_with("<!doctype html") || text.starts_with("<html") => Some("a web page"),
        _ if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") => Some("an SVG drawing"),
        _ => None,
    }
}
