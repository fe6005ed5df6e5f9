"""Lines that several kinds of device share."""

from common.shapes.hardware import StorageHost
from workers.domain_xml.readers import guest_address
from workers.domain_xml.table import OfElement, Table

ALIAS = "alias/@name"
ADDRESS = OfElement("address", guest_address)

STORAGE_HOST = Table(
    StorageHost,
    name="@name",
    port="@port",
    transport="@transport",
    socket="@socket",
)
