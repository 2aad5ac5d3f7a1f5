package pipelines_test

import (
	_ "vtpu/backward"
	_ "vtpu/compute"
	_ "vtpu/gather"
	_ "vtpu/scatter"
	_ "vtpu/update"
)
