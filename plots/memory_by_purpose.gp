# Stacked memory. Blocks 0..NPARTS-1: measured; the next NPARTS: predicted; the last: end of bar, row, total in MiB.
load substr(TEMPLATE, 1, strlen(TEMPLATE)-strlen('memory_by_purpose.gp')) . 'stacked.gp'
set xlabel 'Memory (MiB)' textcolor rgb INK
plot for [i=1:NPARTS] DATA index i-1 using 1:2:3:4:5:6 with boxxyerror linecolor rgb KEYCOLOUR[i] notitle, \
     for [i=1:NPARTS] DATA index NPARTS+i-1 using 1:2:3:4:5:6 with boxxyerror \
         fillstyle transparent solid 0.5 noborder linecolor rgb KEYCOLOUR[i] notitle, \
     DATA index 2*NPARTS using 1:2:3 with labels left offset 0.4,0 textcolor rgb INK notitle
