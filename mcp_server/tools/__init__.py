"""All tools, by name, in the order in which clients show them."""

from typing import Final

from mcp_server.tool import Tool
from mcp_server.tools import generate, jobs, models

TOOLS: Final[dict[str, Tool]] = {tool.name: tool for tool in (*generate.TOOLS, *jobs.TOOLS, *models.TOOLS)}
