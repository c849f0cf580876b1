"""All tools, by name, in the order in which clients show them."""

from typing import Final

from mcp_server import tools_generate, tools_jobs, tools_models
from mcp_server.tool import Tool

TOOLS: Final[dict[str, Tool]] = {
    tool.name: tool for tool in (*tools_generate.TOOLS, *tools_jobs.TOOLS, *tools_models.TOOLS)
}
