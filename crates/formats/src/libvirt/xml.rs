//! libvirt's XML: elements without a namespace.

use roxmltree::Document;

use crate::error::Problem;
use crate::xml::Dialect;
pub(crate) use crate::xml::{Attr, Node, attr, content, elements, excerpt, is_self_closing};

const LIBVIRT: Dialect = Dialect {
    text: "libvirt's XML",
    subject: "domain",
    writer: "`virsh dumpxml`",
    second: (
        "<domain",
        "keep one of them; `virt-install --print-xml` prints two: the guest during the installation and after it (--print-xml 2)",
    ),
};

/// Parses a text.
///
/// # Errors
/// It is not well-formed, or exceeds a limit.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, Problem> {
    crate::xml::parse(text, &LIBVIRT)
}

/// Whether a node is an element with this name. libvirt's own elements are in no namespace.
pub(crate) fn is(node: Node<'_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

/// The child elements with this name.
pub(crate) fn all<'d>(node: Node<'d>, name: &str) -> impl Iterator<Item = Node<'d>> {
    node.children().filter(move |child| is(*child, name))
}

/// The first child element with this name.
pub(crate) fn child<'d>(node: Node<'d>, name: &str) -> Option<Node<'d>> {
    all(node, name).next()
}
