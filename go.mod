module vtpu

go 1.26
