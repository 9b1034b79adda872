//! Names and colours of labels as the header extension that ITK-SNAP's and Nora's kin and TotalSegmentator read: code 0,
//! XML, `CaretExtension/VolumeInformation/LabelTable/Label`.

use std::fmt::Write;
use viscera_image::LabelEntry;

/// The XML of a label table.
pub(super) fn label_xml(labels: &[LabelEntry]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CaretExtension>\n  <VolumeInformation Index=\"0\">\n    <LabelTable>\n",
    );
    for LabelEntry { id, name, rgb } in labels {
        let [red, green, blue] = rgb.map(|c| f32::from(c) / 255.0);
        // "]]>" would end the section; split over two sections it reads as itself.
        let name = name.replace("]]>", "]]]]><![CDATA[>");
        let _ = writeln!(
            xml,
            "      <Label Key=\"{id}\" Red=\"{red}\" Green=\"{green}\" Blue=\"{blue}\" Alpha=\"1\"><![CDATA[{name}]]></Label>"
        );
    }
    xml.push_str(
        "    </LabelTable>\n    <StudyMetaDataLinkSet>\n    </StudyMetaDataLinkSet>\n    \
         <VolumeType><![CDATA[Label]]></VolumeType>\n  </VolumeInformation>\n</CaretExtension>\n",
    );
    xml
}

/// The extension as it stands in a little-endian file: size, code, content; the size a multiple of 16. The padding is
/// white space, which XML readers allow after the end, and not every one allows zeros.
pub(super) fn extension(labels: &[LabelEntry]) -> Vec<u8> {
    let mut content = label_xml(labels).into_bytes();
    let size = (content.len() + 8).next_multiple_of(16);
    content.resize(size - 8, b' ');
    let mut out = Vec::with_capacity(size);
    out.extend((size as u32).to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(content);
    out
}
